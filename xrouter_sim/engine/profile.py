"""A profile: how the simulated world differs from the recorded one. Named, composable, TOML, written to manifests.

A profile is a file of five tables, each with its own dataclass below. `extends` names other profiles whose tables it
takes over, and `A+B` on the command line lays B over A:

    extends = ["failures"]

    [prices]
    sigma = 1.0
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Self

from responses_db import LabError

BUILT_IN = resources.files("xrouter_sim.engine").joinpath("profiles")


@dataclass(frozen=True)
class Prices:
    """Factors on the price cards, drawn per episode; they multiply."""

    sigma: float = 0.0
    """Standard deviation of the log of each model's own factor (median 1)."""
    provider_sigma: float = 0.0
    """The same for a factor that all models of a provider share."""
    sale: float = 0.0
    """Chance that a model is on sale, at `sale_factor` of its price."""
    sale_factor: float = 0.5
    tier_swap: float = 0.0
    """Chance that two models, drawn at random, cost in this episode what the other one costs on average."""
    drift_sigma: float = 0.0
    """Standard deviation of the log of what a model's price moves by from one period to the next, a random walk."""


@dataclass(frozen=True)
class Pools:
    """Which models are on offer in an episode, and how they are shown."""

    drop: float = 0.0
    """Chance that a model is not on offer."""
    least: int = 2
    """Models that are on offer at the least."""
    most: int = 0
    """Models that are on offer at the most; 0: no limit."""
    held_out: tuple[str, ...] = ()
    """Models that are never on offer, to be met for the first time in a test."""
    shuffle: bool = False
    """Whether the order in which the pool is shown is drawn per episode; without, it is that of the store."""
    aliases: bool = False
    """Whether models are shown under neutral names, so that a router must read prices and not names."""


@dataclass(frozen=True)
class Failures:
    """What goes wrong, as rates per attempt in [0, 1] unless said otherwise."""

    timeout: float = 0.0
    rate_limited: float = 0.0
    server_error: float = 0.0
    malformed: float = 0.0
    truncated: float = 0.0
    refused: float = 0.0
    outage: float = 0.0
    """Share of the time that a provider is down: a two-state Markov chain over periods of episodes."""
    outage_periods: float = 5.0
    """Mean length of an outage, in periods."""
    period_episodes: int = 10
    """Episodes in a period: how long outage, load and drifted price stay as they are."""
    load: float = 0.0
    """Amplitude of the providers' load, a wave over `load_periods`: `rate_limited` is multiplied by 1 ± load."""
    load_periods: int = 100
    parallel_load: float = 0.0
    """Added to `rate_limited` for each earlier call of the same turn to the same provider."""

    @property
    def rates(self) -> tuple[float, ...]:
        """In the order of `semantics.Outcome` after `ok`."""
        return (self.timeout, self.rate_limited, self.server_error, self.malformed, self.truncated, self.refused)


@dataclass(frozen=True)
class Latency:
    """A factor on the recorded latency, drawn per attempt (median 1)."""

    sigma: float = 0.0
    """Standard deviation of the log of the factor."""
    tail: float = 0.0
    """Share of attempts in the heavy tail, a Pareto law that goes on where the log-normal is cut."""
    tail_exponent: float = 1.5
    """Of the Pareto law; smaller is heavier. Above 1, so that the mean stays finite."""


@dataclass(frozen=True)
class Client:
    """How the orchestration layer carries out calls. Times in seconds of virtual time."""

    attempts: int = 3
    """Attempts a call, the first included; truncated and refused answers are not tried again."""
    timeout_s: float = 600.0
    """After which an attempt is given up: the default of the common clients."""
    error_s: float = 1.0
    """How long a rate limit or a server error takes to come back."""
    backoff_s: float = 1.0
    """First wait before a retry; doubles each time, times a jitter between 0.5 and 1.5."""
    max_turns: int = 6
    """Turns an episode may take; the last one must end it."""
    max_calls: int = 6
    """Calls an episode may make; more are not carried out."""


@dataclass(frozen=True)
class Profile:
    """A named world. The default is calm: the recorded world as it is."""

    name: str = "calm"
    prices: Prices = field(default_factory=Prices)
    pools: Pools = field(default_factory=Pools)
    failures: Failures = field(default_factory=Failures)
    latency: Latency = field(default_factory=Latency)
    client: Client = field(default_factory=Client)
    providers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Provider to its models, for what strikes providers as a whole; other models go by the store's `provider`."""

    def __post_init__(self) -> None:
        for wrong, what in _mistakes(self):
            if wrong:
                raise LabError(f"profile {self.name}: {what}")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, name: str) -> Self:
        """A built-in profile, a TOML file, or several joined by `+`, later ones laid over earlier ones.

        Raises LabError on an unknown name, table or key, and on a value out of range.
        """
        tables: dict[str, Any] = {}
        for part in name.split("+"):
            _lay_over(tables, _read(part, ()))
        return cls.from_tables("+".join(Path(part).stem for part in name.split("+")), tables)

    @classmethod
    def from_tables(cls, name: str, tables: Mapping[str, Any]) -> Self:
        """From nested settings, as in TOML and in `as_dict`. Raises LabError on an unknown table or key."""
        tables = {key: value for key, value in tables.items() if key != "name"}
        _known(name, "", tables, {f.name for f in fields(cls)} - {"name"})
        providers = {provider: tuple(models) for provider, models in tables.pop("providers", {}).items()}
        return cls(name, **{key: _table(name, key, value) for key, value in tables.items()}, providers=providers)


TABLES = {"prices": Prices, "pools": Pools, "failures": Failures, "latency": Latency, "client": Client}


def built_in_names() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(file.name.removesuffix(".toml") for file in BUILT_IN.iterdir() if file.name.endswith(".toml"))


def _read(name: str, readers: tuple[str, ...]) -> dict[str, Any]:
    """A profile's tables with those that it extends underneath."""
    built_in, path = BUILT_IN.joinpath(f"{name}.toml"), Path(name)
    if not built_in.is_file() and not path.is_file():
        raise LabError(f"no profile {name!r}: give a TOML file or one of {', '.join(built_in_names())}")
    if name in readers:
        raise LabError(f"profile {name}: extends itself, through {' and '.join(readers)}")
    try:
        own = tomllib.loads(built_in.read_text() if built_in.is_file() else path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{name} is not TOML: {error}") from error
    tables: dict[str, Any] = {}
    for base in own.pop("extends", []):
        _lay_over(tables, _read(base, (*readers, name)))
    _lay_over(tables, own)
    return tables


def _lay_over(tables: dict[str, Any], upper: Mapping[str, Any]) -> None:
    for key, value in upper.items():
        if isinstance(value, Mapping):
            tables[key] = dict(tables.get(key, {})) | dict(value)
        else:
            tables[key] = value


def _table(profile: str, name: str, values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise LabError(f"profile {profile}: `{name}` must be a table, as in [{name}]")
    kind = TABLES[name]
    defaults = kind()
    _known(profile, f" of [{name}]", values, vars(defaults))
    settings = {key: _typed(profile, f"{name}.{key}", value, getattr(defaults, key)) for key, value in values.items()}
    return kind(**settings)


def _typed(profile: str, where: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(map(str, value))
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise LabError(f"profile {profile}: {where} must be of the kind of {default!r}, not {value!r}")
    return value


def _known(profile: str, where: str, given: Mapping[str, Any], known: Any) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise LabError(
            f"profile {profile}: unknown keys{where}: {', '.join(unknown)} (known: {', '.join(sorted(known))})"
        )


def _mistakes(profile: Profile) -> list[tuple[bool, str]]:
    prices, pools, failures, latency, client = (getattr(profile, name) for name in TABLES)
    rates, most = failures.rates, 1.0 + failures.load
    return [
        (min(rates) < 0 or sum(rates) > 1, f"failure rates must be at least 0 and sum to at most 1, not {sum(rates)}"),
        (not 0 <= failures.load <= 1, "failures.load must lie in [0, 1]"),
        (sum(rates) + failures.rate_limited * (most - 1) > 1, "failure rates under full load sum to more than 1"),
        (not 0 <= failures.outage < 1, "failures.outage must lie in [0, 1)"),
        (failures.outage_periods < 1, "failures.outage_periods must be at least 1"),
        (failures.period_episodes < 1 or failures.load_periods < 1, "periods must be at least 1"),
        (not 0 <= failures.parallel_load <= 1, "failures.parallel_load must lie in [0, 1]"),
        (not 0 <= pools.drop <= 1, "pools.drop must lie in [0, 1]"),
        (pools.least < 1, "pools.least must be at least 1"),
        (0 < pools.most < pools.least, "pools.most must be 0 or at least pools.least"),
        (min(prices.sigma, prices.provider_sigma, prices.drift_sigma) < 0, "sigmas of [prices] must be at least 0"),
        (not (0 <= prices.sale <= 1 and 0 <= prices.tier_swap <= 1), "prices.sale and tier_swap must lie in [0, 1]"),
        (prices.sale_factor < 0, "prices.sale_factor must be at least 0"),
        (latency.sigma < 0 or not 0 <= latency.tail < 1, "latency.sigma must be at least 0, tail lie in [0, 1)"),
        (latency.tail_exponent <= 1, "latency.tail_exponent must be above 1"),
        (not 1 <= client.attempts <= 32, "client.attempts must lie in 1 … 32"),
        (not (1 <= client.max_turns <= 255 and 1 <= client.max_calls <= 255), "max_turns and max_calls: 1 … 255"),
        (client.timeout_s <= 0, "client.timeout_s must be above 0"),
        (min(client.error_s, client.backoff_s) < 0, "client.error_s and backoff_s must be at least 0"),
    ]
