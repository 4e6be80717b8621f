"""Verifiable queries drawn from reasoning-gym's generators, each with a dial of difficulty.

A query's id is the generator's name and a hash of the question, so one question never stands twice, nor in two splits.
Generator seeds are hashes of (seed, generator, level): reasoning-gym itself seeds item i with `seed + i`, so
neighbouring seeds would repeat each other's items.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from responses_db.errors import LabError
from responses_db.query import Query, digest, split_of
from responses_db.toml_table import Table

UNSTABLE = {"isomorphic_strings": "its items differ from process to process (they follow PYTHONHASHSEED)"}
"""Generators that cannot be harvested, and why: a query must be the same in every run."""

DRAWS_PER_QUERY = 20
"""How many items may be drawn for one new question before a level counts as exhausted."""


def read(table: Table, seed: int, folder: Path) -> list[Query]:
    """The queries of one generator, `count` in all, levels in turn. LabError for an unknown generator or setting."""
    generator = table.text("generator", among=generators())
    if generator in UNSTABLE:
        raise table.fail(f"generator {generator!r} cannot be used: {UNSTABLE[generator]}; choose another")
    domain = table.text("domain")
    count = table.integer("count", least=1)
    options = table.texts("options", None)
    levels = [dict(level.values) for level in table.tables("levels", [{}])] or [{}]
    table.finish()
    per_level = [
        _level(table, generator, settings, number, -(-(count - number) // len(levels)), seed)
        for number, settings in enumerate(levels)
    ]
    queries, seen = list[Query](), set[str]()
    for level, entries in enumerate(per_level):
        difficulty = level / (len(levels) - 1) if len(levels) > 1 else 0.5
        for entry in entries:
            query = _query(generator, domain, difficulty, options, entry)
            if query.query_id not in seen:
                seen.add(query.query_id)
                queries.append(query)
    return sorted(queries, key=lambda query: digest("order", query.query_id))


def generators() -> list[str]:
    """The names that reasoning-gym knows."""
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


def _level(
    table: Table, generator: str, settings: dict[str, Any], number: int, count: int, seed: int
) -> list[dict[str, Any]]:
    import reasoning_gym

    dataset_seed = int(digest("reasoning_gym", seed, generator, number)[:7], 16)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            size = count * DRAWS_PER_QUERY
            dataset = reasoning_gym.create_dataset(generator, seed=dataset_seed, size=size, **settings)
    except (AssertionError, TypeError, ValueError) as error:
        raise table.fail(f"{generator} refuses the settings of level {number + 1}: {error}") from None
    entries = dict[str, dict[str, Any]]()
    for index in range(size):
        try:
            entry = dataset[index]
        except (ArithmeticError, AssertionError, LookupError, ValueError) as error:
            raise table.fail(
                f"{generator} cannot make items with the settings of level {number + 1}: {error}"
            ) from error
        entries.setdefault(entry["question"], entry)
        if len(entries) == count:
            return list(entries.values())
    raise table.fail(
        f"level {number + 1} of {generator} has only {len(entries)} different questions, {count} wanted: "
        "lower `count` or widen the level"
    )


def _query(generator: str, domain: str, difficulty: float, options: list[str] | None, entry: dict[str, Any]) -> Query:
    question, answer = entry["question"].strip(), entry["answer"]
    if not isinstance(answer, str):
        raise LabError(
            f"reasoning-gym's {generator} gives an item without a reference answer: choose another generator"
        )
    query_id = f"reasoning_gym/{generator}-{digest(question)[:12]}"
    metadata: dict[str, Any] = {
        "generator": generator,
        "difficulty": difficulty,
        "entry": json.loads(json.dumps(entry)),
    }
    if options:
        metadata["options"] = options
    return Query(
        query_id=query_id,
        dataset="reasoning_gym",
        domain=domain,
        messages=[{"role": "user", "content": question}],
        question=question,
        reference=answer,
        grader="reasoning_gym",
        split=split_of(query_id),
        metadata=metadata,
    )
