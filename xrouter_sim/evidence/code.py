"""Evidence from running returned code: which responses to a question behave alike, and whether their examples hold.

After MBR-EXEC (Shi et al., arXiv 2204.11454) and CodeT (Chen et al., arXiv 2207.10397): programs that agree on inputs
are likely right, without any test. No score and no hidden test is read. A router may use no more than it has paid for,
so nothing here about a response rests on responses that were not called:

* `behaviour` comes from what a program returns on inputs that are the same for everyone (`inputs.generic`) and on the
  examples in the question;
* `flags` come from the response and the question;
* `agrees` says of two responses whether they behave alike on the examples in the question and in these two.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from responses_db import LabError
from responses_db.graders import sandbox
from xrouter_sim.evidence import outcomes as kept
from xrouter_sim.evidence.examples import Example
from xrouter_sim.evidence.inputs import generic
from xrouter_sim.evidence.programs import VERSION, Asked, Program, Returned, read_question, read_response
from xrouter_sim.evidence.running import LOADED, LOST, OK, Outcomes, run
from xrouter_sim.evidence.values import is_error
from xrouter_sim.features import response_texts
from xrouter_sim.replay import Floats, Ints, Replay

FLAGS = (
    "has_code",  # some code could be found in the response
    "parses",  # it is Python
    "defines",  # it defines a function: the one that was asked for, where the question names it
    "runs",  # it runs as a whole, its own examples of use and asserts included
    "accepts",  # share of generic inputs for which it returned a value
    "own_examples",  # the response states what its function returns in some example
    "own_hold",  # share of those in which it does
    "own_crash",  # an example call in the response raises, or does not end
    "asked_hold",  # share of the question's examples that hold; 0 where it has none
)
"""Columns of `CodeEvidence.flags`, all in [0, 1]."""

LABEL = "returned code, run in a sandbox on generic inputs and on examples from the question and the responses"
"""For manifests, beside `describe`."""

CHUNK = 64
"""Programs that a crash or Ctrl-C can cost: so many run between two writes to the cache."""


class CodeEvidence(NamedTuple):
    """What running returned code tells, in a replay's order. A response without a program that ran is -1 everywhere."""

    behaviour: Ints
    """[Q, A, K] equal numbers within a query behave alike on the same inputs; -1 where every one of them fails."""
    flags: Floats
    """[Q, A, K, len(FLAGS)]"""
    agrees: npt.NDArray[np.int8]
    """[Q, A · K, A · K] symmetric, arm-major: 1 alike on the examples in the question and in these two responses, 0
    not alike, -1 where there is nothing to compare."""
    programs: int
    """Different programs in the replay's responses."""

    def describe(self) -> dict[str, Any]:
        """For manifests: where this comes from."""
        return {"label": LABEL, "version": VERSION, "programs": self.programs}


@dataclass(frozen=True)
class Case:
    """A question and the responses to it, in any order."""

    asked: Asked
    returned: list[Returned]

    @classmethod
    def read(cls, question: str, texts: Iterable[str]) -> "Case":
        asked = read_question(question)
        return cls(asked, [read_response(text, asked) for text in texts])

    def wanted(self) -> Iterator[tuple[Program, list[str]]]:
        """Each program with all inputs that some evidence rests on: first those that are the same for everyone."""
        examples = sorted({example.arguments for returned in self.returned for example in returned.examples})
        for returned in self.returned:
            if returned.program is not None:
                yield returned.program, list(dict.fromkeys([*_shared(self.asked, returned.program), *examples]))


class Ran(NamedTuple):
    """Counts of different programs."""

    programs: int
    ran: int


def cache_beside(store: Path) -> Path:
    """`cache/code` in the store's folder. All its stores share it: outcomes are kept by the hash of the code."""
    return store.parent / "cache" / "code"


def run_missing(
    cases: Sequence[Case], folder: Path, jobs: int = 1, progress: Callable[[int, int], None] | None = None
) -> Ran:
    """Run what the cache in `folder` lacks, several sandboxes (`jobs`) at a time. Ctrl-C keeps what was done.

    `progress(done, total)` is told of programs. Raises LabError where there is something to run and no sandbox.
    """
    wanted = _merged(cases)
    todo = _missing(wanted, kept.read(folder))
    if todo:
        sandbox.require()
    work = iter(todo.items())
    done = 0
    with ThreadPoolExecutor(jobs) as pool:
        while chunk := list(islice(work, CHUNK)):
            found = pool.map(lambda item: run(item[1][0], item[1][1]), chunk)
            kept.keep(folder, {key: outcomes for (key, _), outcomes in zip(chunk, found, strict=True)})
            done += len(chunk)
            if progress:
                progress(done, len(todo))
    return Ran(len(wanted), len(todo))


def code_evidence(replay: Replay, cache: Path | None = None) -> CodeEvidence | None:
    """What running the replay's returned code tells; it is read from `cache` (default: `cache/code` beside the store).

    None where no program of this replay has run: there is none, or `xrouter-sim store run-code` was never called.
    LabError where some have run and others not, as after a harvest. Nothing runs here.
    """
    store = Path(replay.store["path"])
    if not store.is_file():
        return None
    texts, index = response_texts(replay)
    numbers = [np.unique(row[row >= 0]) for row in index]
    cases = [
        Case.read(question, [texts[n] for n in row]) for question, row in zip(replay.questions, numbers, strict=True)
    ]
    wanted = _merged(cases)
    known = kept.read(cache or cache_beside(store))
    missing = _missing(wanted, known)
    if len(missing) == len(wanted):
        return None
    if missing:
        raise LabError(
            f"{store}: {len(missing):,} of {len(wanted):,} programs in its responses have not run; run them with "
            f"`xrouter-sim store run-code --db {store}`"
        )
    return _laid_out(cases, numbers, index, known, len(wanted))


def _laid_out(
    cases: list[Case], numbers: list[npt.NDArray[Any]], index: npt.NDArray[np.int32], known: Any, programs: int
) -> CodeEvidence:
    queries = len(index)
    cells = index.reshape(queries, -1)
    behaviour = np.full(cells.shape, -1)
    flags = np.zeros((*cells.shape, len(FLAGS)))
    agrees = np.full((queries, cells.shape[1], cells.shape[1]), -1, np.int8)
    for q, (case, row) in enumerate(zip(cases, numbers, strict=True)):
        has = np.flatnonzero(cells[q] >= 0)
        if not len(row) or not any(returned.has_code for returned in case.returned):
            continue
        place = np.searchsorted(row, cells[q, has])
        results = [known.get(one.program.key) if one.program else None for one in case.returned]
        behaviour[q, has] = behaviours(case, results)[place]
        flags[q, has] = np.array([_flags(case, *pair) for pair in zip(case.returned, results, strict=True)])[place]
        agrees[q, has[:, None], has] = agreements(case, results)[place[:, None], place]
    shape = index.shape
    return CodeEvidence(behaviour.reshape(shape), flags.reshape(*shape, len(FLAGS)), agrees, programs)


def behaviours(case: Case, results: Sequence[Outcomes | None]) -> Ints:
    """[responses] equal numbers for equal outcomes on the inputs that everyone gets, all errors alike; -1 for none."""
    numbers: dict[tuple[str | None, ...], int] = {}
    found = []
    for returned, outcomes in zip(case.returned, results, strict=True):
        signature = _signature(case.asked, returned.program, outcomes)
        found.append(-1 if signature is None else numbers.setdefault(signature, len(numbers)))
    return np.array(found, np.int64)


def agreements(case: Case, results: Sequence[Outcomes | None]) -> npt.NDArray[np.int8]:
    """[responses, responses] as `CodeEvidence.agrees`; on its diagonal, 1 where a response can be compared at all."""
    count = len(case.returned)
    agrees = np.full((count, count), -1, np.int8)
    asked = [example.arguments for example in case.asked.examples]
    for i, j in [*combinations(range(count), 2), *((i, i) for i in range(count))]:
        one, other = results[i], results[j]
        if one is None or other is None:
            continue
        inputs = [*asked, *(e.arguments for e in (*case.returned[i].examples, *case.returned[j].examples))]
        pairs = [(_value(one, text), _value(other, text)) for text in inputs]
        compared = [a == b for a, b in pairs if a is not None or b is not None]
        if compared:
            agrees[i, j] = agrees[j, i] = all(compared)
    return agrees


def _signature(asked: Asked, program: Program | None, outcomes: Outcomes | None) -> tuple[str | None, ...] | None:
    if program is None or outcomes is None:
        return None
    inputs = _shared(asked, program)
    values = [_value(outcomes, text) for text in inputs]
    return (*inputs, None, *values) if any(value is not None for value in values) else None


def _flags(case: Case, returned: Returned, outcomes: Outcomes | None) -> list[float]:
    found = [float(returned.has_code), float(returned.parses), float(returned.program is not None)]
    if returned.program is None or outcomes is None:
        return found + [0.0] * (len(FLAGS) - len(found))
    stated = [example for example in returned.examples if example.expected is not None]
    accepted = [not is_error(outcomes[text]) for text in generic(returned.program.arity)]
    return [
        *found,
        float(outcomes[LOADED] == OK),
        float(np.mean(accepted)),
        float(bool(stated)),
        _share_that_hold(stated, outcomes),
        float(any(is_error(outcomes[example.arguments]) for example in returned.examples)),
        _share_that_hold([example for example in case.asked.examples if example.expected is not None], outcomes),
    ]


def _share_that_hold(stated: Sequence[Example], outcomes: Outcomes) -> float:
    return float(np.mean([outcomes[example.arguments] == example.expected for example in stated])) if stated else 0.0


def _value(outcomes: Outcomes, text: str) -> str | None:
    outcome = outcomes.get(text, LOST)
    return None if is_error(outcome) else outcome


def _shared(asked: Asked, program: Program) -> list[str]:
    """The inputs that everyone's program with so many arguments gets."""
    return list(dict.fromkeys([*(example.arguments for example in asked.examples), *generic(program.arity)]))


def _merged(cases: Iterable[Case]) -> dict[str, tuple[Program, list[str]]]:
    """Each different program once, by its key, with all its inputs."""
    merged: dict[str, tuple[Program, list[str]]] = {}
    for case in cases:
        for program, inputs in case.wanted():
            known = merged.setdefault(program.key, (program, []))[1]
            known += [text for text in inputs if text not in known]
    return merged


def _missing(
    wanted: dict[str, tuple[Program, list[str]]], known: dict[str, dict[str, str]]
) -> dict[str, tuple[Program, list[str]]]:
    """What has not run yet: of each program, the inputs that it lacks."""
    lacking = {
        key: (program, [text for text in inputs if text not in known.get(key, {})])
        for key, (program, inputs) in wanted.items()
    }
    return {key: (program, inputs) for key, (program, inputs) in lacking.items() if inputs or key not in known}
