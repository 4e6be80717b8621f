"""A profile: how the simulated world differs from the recorded one. Named, composable as TOML, written to manifests."""

import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Self

from responses_db import LabError

BUILT_IN = resources.files("xrouter_sim.engine").joinpath("profiles")


@dataclass(frozen=True)
class Profile:
    """Rates are per attempt and in [0, 1]; times in seconds of virtual time."""

    name: str = "calm"
    price_sigma: float = 0.0
    """Standard deviation of the log of each model's price factor, drawn per episode."""
    pool_drop: float = 0.0
    """Chance that a model is not on offer in an episode; at least `pool_min` models always are."""
    pool_min: int = 2
    timeout: float = 0.0
    rate_limited: float = 0.0
    server_error: float = 0.0
    malformed: float = 0.0
    truncated: float = 0.0
    refused: float = 0.0
    outage: float = 0.0
    """Share of stretches of `outage_episodes` episodes in which a model is down altogether."""
    outage_episodes: int = 50
    attempts: int = 3
    """Attempts a call, the first included; truncated and refused answers are not tried again."""
    timeout_s: float = 600.0
    """How long an injected timeout takes: the default of the common clients."""
    error_s: float = 1.0
    """How long a rate limit or a server error takes to come back."""
    backoff_s: float = 1.0
    """First wait before a retry; doubles, with jitter of ± half."""
    max_turns: int = 6
    """Turns an episode may take; the last one must end it."""

    def __post_init__(self) -> None:
        rates = (self.timeout, self.rate_limited, self.server_error, self.malformed, self.truncated, self.refused)
        if min(rates) < 0 or sum(rates) > 1:
            raise LabError(
                f"profile {self.name}: failure rates must be at least 0 and sum to at most 1, not {sum(rates)}"
            )
        if not (0 <= self.outage <= 1 and 0 <= self.pool_drop <= 1 and self.price_sigma >= 0):
            raise LabError(f"profile {self.name}: outage and pool_drop must lie in [0, 1], price_sigma be at least 0")
        if self.attempts < 1 or self.max_turns < 1 or self.outage_episodes < 1 or self.pool_min < 1:
            raise LabError(f"profile {self.name}: attempts, max_turns, outage_episodes and pool_min must be at least 1")

    @property
    def failure_rates(self) -> tuple[float, ...]:
        """In the order of `simulator.Outcome` after `ok`."""
        return (self.timeout, self.rate_limited, self.server_error, self.malformed, self.truncated, self.refused)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, name_or_path: str) -> Self:
        """A built-in profile by name, or a TOML file. Raises LabError on an unknown name or key."""
        built_in = BUILT_IN.joinpath(f"{name_or_path}.toml")
        path = Path(name_or_path)
        if built_in.is_file():
            text = built_in.read_text()
        elif path.is_file():
            text = path.read_text()
        else:
            known = ", ".join(built_in_names())
            raise LabError(f"no profile {name_or_path!r}: give a TOML file or one of {known}")
        try:
            settings = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise LabError(f"{path} is not TOML: {error}") from error
        unknown = set(settings) - {field.name for field in fields(cls)}
        if unknown:
            raise LabError(f"profile {name_or_path}: unknown keys {', '.join(sorted(unknown))}")
        return cls(**{"name": path.stem} | settings)


def built_in_names() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(file.name.removesuffix(".toml") for file in BUILT_IN.iterdir() if file.name.endswith(".toml"))
