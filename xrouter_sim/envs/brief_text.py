"""The wording of `pool_text` in few tokens, for small models and small machines.

Money is told as a share of what a right answer is worth at this λ: what a call takes off the reward. A model that
cannot divide can still read it, and the same share means the same at every λ and every price.
"""

import math

from xrouter_sim.engine.semantics import Outcome
from xrouter_sim.envs.pool_text import Left, Offer, Response

INSTRUCTIONS = "Route. Prices in % of a right answer."

NOT_USABLE = "not usable"


def pool_text(
    offers: list[Offer], styles: list[str], penalty: float, worth: float, left: Left, can_answer: bool
) -> str:
    """λ, the limits, and a line a model: its name and what a call takes, for each prompt style."""
    several = f" ({' '.join(styles)})" if len(styles) > 1 else ""
    head = f"λ {penalty:g}, {_left(left, worth)}{several}"
    lines = [f"{offer.name} {' '.join(share(usd, worth) for usd in offer.call_usd)}" for offer in offers]
    return "\n".join([head, *lines])


def response_text(response: Response, longest: int, worth: float) -> str:
    """One response: its number, who gave it, what it took, and the end of its text."""
    name = f"{response.model}/{response.style}" if response.style else response.model
    head = f"{response.number} {name} {'cached' if response.cached else share(response.usd, worth)}"
    if response.outcome != Outcome.OK:
        return f"{head} {response.outcome.name.lower()}"
    text = (response.text or "?").strip()
    if len(text) > longest:  # what it concludes mostly stands at its end
        text = f"…{text[-longest:]}"
    return f"{head}: {text}\n{_agreement(response.agrees)}"


def state_text(usd: float, seconds: float, left: Left, worth: float) -> str:
    return f"spent {share(usd, worth)}, {_left(left, worth)}"


def not_called_text(models: list[str]) -> str:
    return f"not called: {' '.join(models)}"


def end_text(ending: int, final: int) -> str:
    return "over" if final < 0 else f"over: {final + 1}"


def share(usd: float, worth: float) -> str:
    """Percent of a right answer's worth in two significant digits, 100 at most.

    >>> [share(usd, 0.2) for usd in (0.0, 0.00001, 0.0024, 0.05, 0.5)], share(1.0, math.inf)
    (['0', '0.005', '1.2', '25', '100'], '0')
    """
    percent = min(100.0 * usd / worth, 100.0)
    return f"{percent:.2g}" if percent < 100.0 else "100"


def _left(left: Left, worth: float) -> str:
    parts = [f"{left.turns} turns", f"{left.calls} calls"]
    if left.usd < math.inf:
        parts.append(f"{share(max(left.usd, 0.0), worth)} to spend")
    if left.seconds < math.inf:
        parts.append(f"{max(left.seconds, 0.0):.0f} s")
    return ", ".join(parts)


def _agreement(agrees: list[int] | None) -> str:
    if agrees is None:
        return "no answer"
    return f"same as {' '.join(map(str, agrees))}" if agrees else "new"
