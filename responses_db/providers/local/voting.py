"""What makes several models out of one: examples before the question, and a majority over several samples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from responses_db.graders import final_answer
from responses_db.query import digest


def with_examples(messages: Sequence[Mapping[str, Any]], examples: Sequence[Sequence[str]]) -> list[Mapping[str, Any]]:
    """The messages with (question, answer) pairs as earlier turns, after any system message."""
    turns = [
        {"role": role, "content": text}
        for pair in examples
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    head = [message for message in messages if message["role"] == "system"]
    return [*head, *turns, *(message for message in messages if message["role"] != "system")]


def vote_seed(seed: int, number: int) -> int:
    """The seed of a vote's sample, of 31 bits: none that the same model gets without a vote."""
    return int(digest("vote", seed, number)[:8], 16) & 0x7FFF_FFFF


def majority(completions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first completion with the commonest final answer (the earliest of equals), billed for all of them.

    `usage` is the sum over all samples, and `votes` has their answers (null where none was read).
    """
    answers = [final_answer(one["choices"][0]["message"]["content"] or "") for one in completions]
    counted = Counter(answer for answer in answers if answer is not None)
    winner = answers.index(counted.most_common(1)[0][0]) if counted else 0
    return {**completions[winner], "usage": _sum([one.get("usage") or {} for one in completions]), "votes": answers}


def _sum(usages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts added up, nested ones as well."""
    total: dict[str, Any] = {}
    for key in dict.fromkeys(key for usage in usages for key in usage):
        values = [usage[key] for usage in usages if usage.get(key) is not None]
        total[key] = _sum(values) if values and isinstance(values[0], Mapping) else sum(values)
    return total
