"""The words of the tool-calling face: what a language model is told of a pool, of responses and of an end."""

import math
import string
from dataclasses import dataclass

from xrouter_sim.engine.semantics import Final, Outcome

INSTRUCTIONS = """\
You answer a question with the help of language models that you call through tools. A call costs what the model's \
provider bills, and models differ in price and ability. Find a right answer for as little money as you can.
Call one model with call_model, or several at once with call_models. Then end the episode: select_response takes an \
earlier response as the final answer, majority_vote and weighted_vote take the answer that most responses agree on, \
and answer gives one in your own words, which costs nothing but must be right.
You are not told whether an answer is right. An episode that ends without a final answer counts as wrong."""

OVER = "The episode is over: its final answer is fixed and no tool does anything any more."

FAILURES = {
    Outcome.TIMEOUT: "timed out",
    Outcome.RATE_LIMITED: "was turned away by the provider's rate limit",
    Outcome.SERVER_ERROR: "failed with a server error",
    Outcome.MALFORMED: "brought nothing usable: the response was malformed",
    Outcome.TRUNCATED: "was cut off at its token limit",
    Outcome.REFUSED: "was refused by the model",
    Outcome.FAILED: "failed",
    Outcome.UNAVAILABLE: "was not sent: this model is not on offer in this episode",
    Outcome.OVER_LIMIT: "was not sent: your budget or your time is used up",
}
"""Outcome to what is said of the call."""


@dataclass(frozen=True)
class Offer:
    """A model on offer, at today's prices."""

    name: str
    card: tuple[float, float] | None  # USD per million input and output tokens
    call_usd: list[float]  # what a call costs on average, for each prompt style


@dataclass(frozen=True)
class Left:
    """What is left of an episode's limits; infinite where there is none."""

    turns: int
    calls: int
    usd: float
    seconds: float


@dataclass(frozen=True)
class Response:
    """One slot, as it is told. `agrees`: numbers of earlier responses with the same answer; None without an answer."""

    number: int
    model: str
    style: str | None  # None where there is but one
    outcome: Outcome
    attempts: int
    cached: bool
    text: str | None
    tokens: int  # -1 unknown
    usd: float
    seconds: float
    agrees: list[int] | None


def dollars(usd: float) -> str:
    """Two significant digits, or cents.

    >>> [dollars(usd) for usd in (12.5, 0.0314, 0.01, 4.2e-6, 0.0)]
    ['$12.50', '$0.031', '$0.01', '$0.0000042', '$0']
    """
    if usd == 0:
        return "$0"
    digits = max(2, 1 - math.floor(math.log10(abs(usd))))
    text = f"{usd:.{digits}f}"
    return f"${text.removesuffix('0')}" if digits > 2 else f"${text}"


def alias(place: int) -> str:
    """A neutral name for the model at a place of the pool as it is shown: model-a … model-z, model-aa, …."""
    return f"model-{letter(place)}"


def letter(place: int) -> str:
    """A place as a letter, or several.

    >>> [letter(place) for place in (0, 25, 26, 52)]
    ['a', 'z', 'aa', 'ba']
    """
    letters, place = "", place + 1
    while place:
        place, last = divmod(place - 1, 26)
        letters = string.ascii_lowercase[last] + letters
    return letters


def pool_text(
    offers: list[Offer], styles: list[str], penalty: float, worth: float, left: Left, can_answer: bool
) -> str:
    """What an episode begins with. `worth` in USD: the spending at which a right answer is worth nothing any more; it
    says what the `penalty` λ means, so λ is not told."""
    lines = ["Models on offer, at today's prices:", *(f"- {_offer(offer, styles)}" for offer in offers)]
    if len(styles) > 1:
        lines.append(f"Prompt styles: {', '.join(styles)}.")
    lines += [_worth(worth), f"You have {_left(left)}."]
    if not can_answer:
        lines.append("An answer in your own words cannot be graded here: end with a selected response or a vote.")
    return "\n".join(lines)


def _offer(offer: Offer, styles: list[str]) -> str:
    if len(styles) == 1:
        average = f"about {dollars(offer.call_usd[0])} a call"
    else:
        priced = zip(styles, offer.call_usd, strict=True)
        average = f"a call costs about {', '.join(f'{dollars(usd)} ({style})' for style, usd in priced)}"
    if offer.card is None:
        return f"{offer.name}: {average}"
    paid_in, paid_out = offer.card
    return f"{offer.name}: {dollars(paid_in)} in and {dollars(paid_out)} out per million tokens, {average}"


def _worth(worth: float) -> str:
    if worth == math.inf:
        return "A right answer is worth 1, whatever it costs; a wrong one is worth nothing."
    return (
        f"A right answer is worth {dollars(worth)} less what you have spent, and never below nothing; "
        "a wrong one is worth nothing."
    )


def _left(left: Left) -> str:
    parts = [_count(left.turns, "turn"), _count(left.calls, "call")]
    if left.usd < math.inf:
        parts.append(f"a budget of {dollars(max(left.usd, 0.0))}")
    if left.seconds < math.inf:
        parts.append(f"{max(left.seconds, 0.0):.1f} seconds")
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def state_text(usd: float, seconds: float, left: Left, worth: float) -> str:
    """What is spent and what is left between two turns."""
    last = " This is your last turn: it must end the episode." if left.turns == 1 else ""
    return f"Spent so far: {dollars(usd)}, {seconds:.1f} seconds. You have {_left(left)} left.{last}"


def response_text(response: Response, longest: int, worth: float) -> str:
    """One response, its text cut to about `longest` characters."""
    styled = f" ({response.style})" if response.style else ""
    head, bill = f"Response {response.number} from {response.model}{styled}", _bill(response)
    if response.outcome != Outcome.OK:
        failure = f"The call of {response.model}{styled} {FAILURES[response.outcome]}"
        if response.attempts > 1:
            failure += f" after {response.attempts} attempts"
        failed = f"Response {response.number}: {failure}. {bill}"
        return failed if response.text is None else f"{failed}\n{cut(response.text, longest)}"
    return f"{head}. {bill}\n{cut(response.text or '(its text is not known)', longest)}\n{_agreement(response.agrees)}"


NOT_USABLE = "The last response is not usable, so it is not the final answer."


def not_called_text(models: list[str]) -> str:
    """Of calls that would have been too many."""
    return f"Not called, since you have made all calls of an episode: {', '.join(models)}."


def end_text(ending: int, final: int) -> str:
    """How an episode ended: with what Final, and the slot of its final answer or -1."""
    if ending == Final.DIRECT:
        how = "Your answer is the final answer."
    elif final >= 0:
        how = f"Response {final + 1} is the final answer."
    elif ending == Final.CONTINUE:
        how = "Your turns are used up, and there is no final answer."
    else:
        how = "There is no final answer."
    return f"{how} The episode is over."


def _bill(response: Response) -> str:
    if response.cached:
        return "From the cache, free."
    tokens = f"{response.tokens} tokens, " if response.tokens >= 0 and response.outcome == Outcome.OK else ""
    return f"{tokens}{dollars(response.usd)}, {response.seconds:.1f} seconds."


def _agreement(agrees: list[int] | None) -> str:
    if agrees is None:
        return "No answer can be read out of it."
    if not agrees:
        return "No earlier response gives the same answer."
    others = "response" if len(agrees) == 1 else "responses"
    return f"Its answer is the same as that of {others} {', '.join(map(str, agrees))}."


def cut(text: str, longest: int) -> str:
    """A text's head and tail: what it concludes mostly stands at its end.

    >>> cut("abcdefghij" * 20, 20)
    'abcdefghij\\n[… 180 characters left out …]\\nabcdefghij'
    """
    if len(text) <= longest:
        return text
    head, tail = text[: longest - longest // 2], text[len(text) - longest // 2 :]
    return f"{head}\n[… {len(text) - longest} characters left out …]\n{tail}"
