"""What an attempt must have before it is sent: room in the endpoint's limits a minute, and in the budget."""

from dataclasses import dataclass

from responses_db.budget import Budget
from responses_db.cells import Cell
from responses_db.completion import Usage, estimate
from responses_db.errors import LabError
from responses_db.limits import RequestLimit, TokenLimit
from responses_db.providers import Endpoint, Model

ROOM_TOKENS = 64
"""Tokens that an endpoint may add to a request by its chat template."""

FIRST_OUTPUT_TOKENS = 500.0
"""Foreseen for the first calls, until answers show how long they are."""

MEMORY = 0.05
"""Weight of each answer's length in the running mean."""


def most_input_tokens(body: bytes) -> int:
    """No tokenizer makes more tokens than a text has bytes."""
    return len(body) + ROOM_TOKENS


def most_usd(cell: Cell, body: bytes) -> float:
    """The most that a call can cost. LabError for a model without a price."""
    price = cell.model.price
    usd = price.most(most_input_tokens(body), cell.max_tokens) if price else None
    if usd is None:
        raise no_price(cell.model)
    return usd


def no_price(model: Model) -> LabError:
    """What to say of a model without a price when there is a budget."""
    return LabError(
        f"{model.model_id} has no price, so no budget can hold: give it a `price` in the config (input = 0 and "
        "output = 0 for one that costs nothing), or leave the budget out"
    )


class Admission:
    """One endpoint's limits, and the harvest's budget. Without either, calls need no ticket."""

    def __init__(self, endpoint: Endpoint, budget: Budget | None) -> None:
        requests, tokens = endpoint.requests_per_minute, endpoint.tokens_per_minute
        self.requests = RequestLimit(requests) if requests else None
        self.tokens = TokenLimit(tokens) if tokens else None
        self.budget = budget
        self._output_tokens: dict[str, float] = {}

    def ticket(self, cell: Cell, body: bytes) -> "CallTicket | None":
        """What this call must enter with."""
        if self.requests is None and self.tokens is None and self.budget is None:
            return None
        output = self._output_tokens.get(cell.model.model_id, min(FIRST_OUTPUT_TOKENS, cell.max_tokens))
        foreseen = estimate(len(body)) + output if self.tokens else 0.0
        return CallTicket(self, cell, most_usd(cell, body) if self.budget else 0.0, foreseen)

    def learn(self, model_id: str, output_tokens: int) -> None:
        """Remember how long this model's answers are."""
        known = self._output_tokens.get(model_id)
        mean = float(output_tokens) if known is None else known + MEMORY * (output_tokens - known)
        self._output_tokens[model_id] = mean


@dataclass(slots=True)
class CallTicket:
    """One call's way through the limits and the budget, attempt by attempt."""

    admission: Admission
    cell: Cell
    most_usd: float
    foreseen_tokens: float

    def ready(self) -> bool:
        """Whether `enter` would return at once."""
        requests, tokens, budget = self.admission.requests, self.admission.tokens, self.admission.budget
        return (
            (requests is None or requests.ready())
            and (tokens is None or tokens.ready(self.foreseen_tokens))
            and (budget is None or budget.ready(self.most_usd))
        )

    async def enter(self) -> None:
        """Wait for the limits, then for the budget. BudgetReached when there will be no room in it."""
        if self.admission.requests:
            await self.admission.requests.take()
        if self.admission.tokens:
            await self.admission.tokens.take(self.foreseen_tokens)
        if self.admission.budget:
            await self.admission.budget.reserve(self.most_usd)

    def leave(self, *, billed: bool) -> None:
        """An attempt ended without an answer."""
        if self.admission.tokens and not billed:
            self.admission.tokens.correct(self.foreseen_tokens, 0.0)
        if budget := self.admission.budget:
            if billed:
                budget.lose(self.most_usd)
            else:
                budget.release(self.most_usd)

    def settle(self, usage: Usage) -> None:
        """The answer is safely on disk."""
        if self.admission.tokens:
            self.admission.tokens.correct(self.foreseen_tokens, usage.input + usage.output)
            self.admission.learn(self.cell.model.model_id, usage.output)
        if budget := self.admission.budget:
            price = self.cell.model.price
            usd = price.cost(usage.input, usage.output, usage.cached) if price else None
            budget.settle(self.most_usd, self.most_usd if usd is None else usd)
