"""From queries to items: what the simulated world must know to answer, with plausible wrong answers.

A wrong answer has the type and form of the reference: another of the options, a number off by a digit, letters swapped,
roles exchanged, another name of the same question. Each is put before the query's own grader and kept only if it
scores below WORTHLESS, so that right and wrong are what the grader will say. It depends on the query alone, so that
answers do not depend on which other queries a harvest asks.
"""

import math
import random
import re
from collections.abc import Callable, Iterator, Sequence

from responses_db.errors import LabError
from responses_db.graders import GRADERS, grade
from responses_db.providers.simulated.calibration import BENCHMARKS
from responses_db.providers.simulated.world import Item
from responses_db.query import Message, Query, digest

WANTED = 6
"""Wrong answers per query, where so many can be found."""

TRIES = 60
WORTHLESS = 0.1

Maker = Callable[[Query, random.Random], str]


def message_key(messages: Sequence[Message]) -> str:
    """What an item is found by: a hash of the messages without system prompts."""
    return digest(*(f"{m['role']}: {m['content']}" for m in messages if m["role"] != "system"))


def make_item(query: Query) -> Item:
    """The item of a query. LabError when it has no usable reference or domain, or no wrong answer can be made."""
    if query.domain not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        raise LabError(f"{query.query_id}: simulated models know no domain {query.domain!r}: choose one of {known}")
    if query.reference is None or not _grade(query, query.reference) == 1:
        raise LabError(
            f"{query.query_id}: simulated models need a reference that its grader accepts; {query.reference!r} "
            f"scores below 1 with grader {query.grader!r}"
        )
    wrong = _wrong_answers(query)
    if not wrong:
        raise LabError(f"{query.query_id}: found no plausible wrong answer to {query.reference!r}: give it `options`")
    options = len(query.metadata.get("options", []))
    difficulty = float(query.metadata.get("difficulty", 0.5))
    return Item(query.query_id, query.domain, difficulty, options, query.reference, tuple(wrong))


def _wrong_answers(query: Query) -> list[str]:
    found = list[str]()
    for candidate in _candidates(query):
        if candidate not in found and candidate != query.reference and _grade(query, candidate) < WORTHLESS:
            found.append(candidate)
        if len(found) == WANTED:
            break
    return found


def _grade(query: Query, answer: str) -> float:
    """What the answer will score; NaN, which is neither right nor worthless, when the scorer cannot say."""
    try:
        return grade(GRADERS[query.grader], f"Answer: {answer}", query).score
    except Exception:  # some of reasoning-gym's scorers fail on odd answers: such an answer is not used
        return math.nan


def _candidates(query: Query) -> Iterator[str]:
    rng = random.Random(digest("wrong answers", query.query_id))
    if options := query.metadata.get("options"):
        yield from rng.sample(options, len(options))
        return
    make = _maker(query)
    for _ in range(TRIES):
        yield make(query, rng)


def _maker(query: Query) -> Maker:
    """The way in which this reference is made wrong."""
    reference = query.reference or ""
    if re.fullmatch(r"[-−]?\d+", reference):
        return _other_number
    if "knight_knave_terms" in query.metadata.get("entry", {}).get("metadata", {}):
        return _other_roles
    return _other_name if reference in _names(query) else _slip


def _other_number(query: Query, rng: random.Random) -> str:
    """Off by a little, by a place, or with one digit changed; never of another sign than it could be."""
    value = int((query.reference or "0").replace("−", "-"))
    size = max(1, abs(value))
    kind = rng.randrange(4)
    if kind == 0:
        wrong = value + rng.choice((-2, -1, 1, 2))
    elif kind == 1:
        wrong = value + rng.choice((-1, 1)) * 10 ** rng.randrange(len(str(size)))
    elif kind == 2:
        wrong = value + rng.choice((-1, 1)) * max(1, round(size * rng.uniform(0.01, 0.1)))
    else:
        digits = list(str(size))
        digits[rng.randrange(len(digits))] = str(rng.randrange(10))
        wrong = int("".join(digits)) * (-1 if value < 0 else 1)
    return str(abs(wrong) if value >= 0 else wrong)


def _other_roles(query: Query, rng: random.Random) -> str:
    """Knights and knaves: one or more people take the other role."""
    terms = query.metadata["entry"]["metadata"]["knight_knave_terms"]
    roles = terms["knight"], terms["knave"]
    parts = re.split(rf"\b({roles[0]}|{roles[1]})\b", query.reference or "")
    spoken = range(1, len(parts), 2)
    for place in rng.sample(spoken, rng.randint(1, len(spoken))):
        parts[place] = roles[1] if parts[place] == roles[0] else roles[0]
    return "".join(parts)


def _names(query: Query) -> list[str]:
    """Names in the question, but for its last line, which asks."""
    return sorted(set(re.findall(r"\b[A-Z][\w-]{2,}\b", query.question.rpartition("\n")[0])))


def _other_name(query: Query, rng: random.Random) -> str:
    return rng.choice(_names(query))


def _slip(query: Query, rng: random.Random) -> str:
    """Signs swapped, dropped, or replaced by others of the answer or the question."""
    signs = list(query.reference or "")
    for _ in range(rng.randint(1, 2)):
        places = [i for i, sign in enumerate(signs) if sign.isalnum()]
        if len(places) < 2:
            break
        a, b = rng.sample(places, 2)
        kind = rng.randrange(3)
        if kind == 0:
            signs[a], signs[b] = signs[b], signs[a]
        elif kind == 1:
            del signs[a]
        else:
            signs[a] = rng.choice([signs[b], *filter(str.isalnum, query.question[-200:])])
    return "".join(signs)
