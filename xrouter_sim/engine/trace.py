"""What happened in an episode, call by call and attempt by attempt: one form for simulated and for live episodes.

A trace file has one JSON object a line, one line an episode. Figures are in USD and seconds; what is unlimited or not
known is null. A trace is for people and for replay (see `replaying`): it shows scores, which no router ever sees.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from responses_db import LabError
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.semantics import Final
from xrouter_sim.files import written_whole

FORMAT = 1
"""Grows when a reader of the old form would misread the new one."""


@dataclass(frozen=True)
class AttemptTrace:
    """One attempt. `sent` is false where the deadline came while it waited to be sent."""

    outcome: str
    """An Outcome's name in lower case."""
    sent: bool
    recorded: bool
    """Whether this is how the stored (or the live) call itself came back, not injected by the profile."""
    waited_s: float
    """Backoff before it."""
    seconds: float
    cost_usd: float


@dataclass(frozen=True)
class CallTrace:
    """One call: its attempts add up to its cost and its time, in this order, to the last bit."""

    slot: int
    model: str
    prompt_style: str
    sample: int
    samples: int
    """How many samples the arm can be asked for."""
    cached: bool
    outcome: str
    """Of the last attempt; unavailable and over_limit were never sent."""
    cost_usd: float
    seconds: float
    attempts: list[AttemptTrace]
    text: str | None = None
    """The response, where one arrived whole and the store has its text."""
    answer: str | None = None
    """What the grader read out of the text; #n without texts, where equal numbers of a query are equal answers."""
    score: float | None = None
    """What it would score as the final answer; null where nothing was delivered."""


@dataclass(frozen=True)
class TurnTrace:
    """One turn: what the router asked for, what came of it, and bill and clock after it."""

    asked: list[str]
    """Arms, as in `Replay.arm_names`; those beyond the limit on calls were not carried out."""
    final: str
    """continue, none, vote, weighted_vote, adopt, direct or select."""
    selected: int | None
    """The slot, for select."""
    calls: list[CallTrace]
    cost_usd: float
    time_s: float


@dataclass(frozen=True)
class Offer:
    """A model in the pool, at the episode's price."""

    model: str
    on_offer: bool
    price: float | None
    """Factor on its price card; null where it is not on offer."""
    usd_per_1k: float | None
    """Mean cost of a thousand of its answers in the store, at that price."""


@dataclass(frozen=True)
class End:
    """How the episode ended: by which action, with the response of which slot (null: without an answer)."""

    how: str
    slot: int | None
    model: str | None
    answer: str | None
    score: float | None
    """Null, as the reward, where nobody knows what is right: the query has no grader."""
    reward: float | None


@dataclass(frozen=True)
class EpisodeTrace:
    """An episode from the pool to the reward, with all that is needed to play it again."""

    episode: int
    query_id: str
    question: str
    domain: str
    router: str
    engine: str
    """simulated or live."""
    label: str
    """Where the answers come from, in words."""
    seed: int
    penalty: float
    cost_unit_usd: float
    budget_usd: float | None
    deadline_s: float | None
    profile: dict[str, Any]
    """See `profile_settings`."""
    models: list[str]
    prompt_styles: list[str]
    """Models and styles in the engine's order: arm i is model i // S with style i % S."""
    direct: str | None
    """The arm of direct answers."""
    vote_weights: list[float] | None
    """Of each arm, for weighted votes; null: one each."""
    latency_known: bool
    """Without, the store has no latencies and answers take no time."""
    pool: list[Offer]
    """As it was shown to the router."""
    turns: list[TurnTrace]
    end: End
    cost_usd: float
    time_s: float
    store: dict[str, Any] = field(default_factory=dict)
    """Path and content hash of the store behind the answers; empty for live ones."""
    format: int = FORMAT

    @property
    def calls(self) -> list[CallTrace]:
        """All calls, by slot."""
        return [call for turn in self.turns for call in turn.calls]

    @property
    def arm_names(self) -> list[str]:
        """As in `Replay.arm_names`."""
        if len(self.prompt_styles) == 1:
            return self.models
        return [f"{model}/{style}" for model in self.models for style in self.prompt_styles]

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """ValueError, KeyError or TypeError where the line is no trace of this form."""
        values = json.loads(line)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"no trace of form {FORMAT}")
        values["pool"] = [Offer(**offer) for offer in values["pool"]]
        values["turns"] = [_turn(turn) for turn in values["turns"]]
        values["end"] = End(**values["end"])
        return cls(**values)


def action_words(final: int) -> tuple[str, int | None]:
    """How a turn ends, as a trace has it: a word, and the slot that is selected."""
    return (Final(final).name.lower(), None) if final < 0 else ("select", int(final))


def profile_settings(profile: Profile) -> dict[str, Any]:
    """A profile as a trace has it: what JSON gives back as it was."""
    settings: dict[str, Any] = json.loads(json.dumps(profile.as_dict()))
    return settings


def check_folder(path: Path) -> None:
    """Raises LabError when a trace could not be written there; better said before an hour of episodes than after."""
    if not path.parent.is_dir():
        raise LabError(f"no folder {path.parent} to write {path.name} to: make it, or give another --trace")


def write_traces(traces: Iterable[EpisodeTrace], path: Path) -> None:
    """One line a trace. The file is written whole or not at all. Raises LabError when it cannot be."""
    check_folder(path)
    with written_whole(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        file.writelines(f"{trace.to_json()}\n" for trace in traces)


def read_traces(path: Path) -> Iterator[EpisodeTrace]:
    """The traces of a file. Raises LabError that names the line where it is no trace."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield _parsed(line, f"{path}, line {number}")
    except FileNotFoundError as error:
        raise LabError(f"no trace at {path}: write one with `xrouter-sim simulate ROUTER --trace {path}`") from error
    except UnicodeDecodeError as error:
        raise LabError(f"{path} is no text file: give what `xrouter-sim simulate --trace` wrote") from error


def differences(one: EpisodeTrace, other: EpisodeTrace, tolerance: float = 1e-9) -> list[str]:
    """In what two traces tell another course of events; empty when they tell the same one.

    The course is the episode and all its turns, calls and attempts, the end, the bill and the clock; not who tells it
    (engine, label, store, pool). Figures may be `tolerance` (USD, seconds) apart.
    """
    parts = ("episode", "query_id", "seed", "penalty", "turns", "end", "cost_usd", "time_s")
    pairs = ((part, getattr(one, part), getattr(other, part)) for part in parts)
    return [line for part, a, b in pairs for line in _apart(part, _plain(a), _plain(b), tolerance)]


def _apart(where: str, one: Any, other: Any, tolerance: float) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() | other.keys():
            yield from _apart(f"{where}.{name}", one.get(name), other.get(name), tolerance)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from _apart(f"{where}[{number}]", a, b, tolerance)
    elif isinstance(one, float) and isinstance(other, float):
        if not abs(one - other) <= tolerance:
            yield f"{where}: {one!r} and {other!r}"
    elif one != other:
        yield f"{where}: {one!r} and {other!r}"


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _turn(values: Mapping[str, Any]) -> TurnTrace:
    calls = [
        CallTrace(**{**call, "attempts": [AttemptTrace(**attempt) for attempt in call["attempts"]]})
        for call in values["calls"]
    ]
    return TurnTrace(**{**values, "calls": calls})


def _parsed(line: str, where: str) -> EpisodeTrace:
    try:
        return EpisodeTrace.from_json(line)
    except (ValueError, KeyError, TypeError) as error:
        names = ", ".join(each.name for each in fields(EpisodeTrace)[:4])
        raise LabError(
            f"{where} is no trace ({error}): a line is an object with {names}, …, as `xrouter-sim simulate --trace` "
            "writes it"
        ) from error
