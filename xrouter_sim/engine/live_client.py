"""Asks OpenAI-compatible endpoints for the live engine: one attempt a call, and every way it can go as an Outcome.

Requests are those of a harvest, byte for byte, so what a live episode pays for is what a harvest would have stored.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from responses_db import LabError
from responses_db.admission import most_usd
from responses_db.cells import Cell
from responses_db.completion import billed_usd, mean_logprob, status_of, text_of, usage_of
from responses_db.providers.base import Model, Price, Provider
from responses_db.providers.client import ChatClient, Failure
from responses_db.providers.client import Reply as Came
from responses_db.query import Query
from xrouter_sim.engine.live import Arm, Reply
from xrouter_sim.engine.semantics import Outcome

NEVER = 2**62
"""Attempts and calls in a row may fail as they like: the engine decides when to stop."""

STATUS = re.compile(r"HTTP (\d{3})")
BUSY, PASSING = (429,), (408, 409, 425)
"""HTTP statuses of a rate limit, and of what may pass beside the server errors from 500 up."""

NOT_CONNECTED = ("ClientConnector", "ConnectionTimeout", "ClientConnection")

OUTCOMES = {"ok": Outcome.OK, "truncated": Outcome.TRUNCATED, "refused": Outcome.REFUSED}


@dataclass(frozen=True)
class _Line:
    """A model, who serves it, and the open connection."""

    provider: Provider
    model: Model
    client: ChatClient


class ChatAsker:
    """Asks the models of open connections. Make one with `open_asker`."""

    def __init__(self, lines: Mapping[str, _Line], max_tokens: int) -> None:
        self.lines, self.max_tokens = lines, max_tokens
        self.provenance = " and ".join(sorted({line.provider.provenance for line in lines.values()}))

    async def ask(self, arm: Arm, sample: int, query: Query, timeout_s: float) -> Reply:
        """See `live.Asker`. What an attempt without an answer was billed is not known: it is taken at most."""
        line = self.lines[arm.model]
        cell = self.cell(arm, sample, query)
        body, began = cell.request(), time.perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                came = await self.send(line.client, body)
        except TimeoutError:
            return Reply(Outcome.TIMEOUT, None, timeout_s, most_usd(cell, body))
        if isinstance(came, Failure):
            outcome = outcome_of(came.error)
            billed = outcome in (Outcome.TIMEOUT, Outcome.MALFORMED)
            return Reply(outcome, None, time.perf_counter() - began, most_usd(cell, body) if billed else 0.0)
        usage = usage_of(came.body, cell.prompt_characters)
        cost = billed_usd(came.body)
        if cost is None:
            cost = _priced(line.model).cost(usage.input, usage.output, usage.cached)
        return Reply(
            OUTCOMES[status_of(came.body)],
            text_of(came.body),
            came.latency_s,
            most_usd(cell, body) if cost is None else cost,
            mean_logprob(came.body),
            usage,
        )

    def cell(self, arm: Arm, sample: int, query: Query) -> Cell:
        """What is asked for."""
        line = self.lines[arm.model]
        most = line.model.max_tokens or self.max_tokens
        return Cell(query, line.provider, line.model, arm.prompt_style, arm.system, sample, most)

    async def send(self, client: ChatClient, body: bytes) -> Came | Failure:
        """One attempt."""
        return await client.complete(body)


@asynccontextmanager
async def open_asker(
    providers: Sequence[Provider], queries: Sequence[Query], max_tokens: int
) -> AsyncIterator[ChatAsker]:
    """Connections to all models of the providers. LabError where a key or a price is missing.

    `queries` are those that may be asked (simulated providers must know them beforehand).
    """
    async with AsyncExitStack() as stack:
        lines = dict[str, _Line]()
        for provider in providers:
            for model in provider.models:
                _priced(model)
            provider.prepare(queries)
            endpoint = await stack.enter_async_context(provider.endpoint())
            client = ChatClient(replace(endpoint, retries=0, give_up_after=NEVER), provider.concurrency)
            stack.push_async_callback(client.close)
            lines |= {model.model_id: _Line(provider, model, client) for model in provider.models}
        yield ChatAsker(lines, max_tokens)


def outcome_of(error: str) -> Outcome:
    """What a failed attempt counts as, by what the client says of it."""
    status = STATUS.match(error)
    if status:
        code = int(status[1])
        if code in BUSY:
            return Outcome.RATE_LIMITED
        return Outcome.SERVER_ERROR if code >= 500 or code in PASSING else Outcome.FAILED
    if error.startswith("timeout"):
        return Outcome.TIMEOUT
    # Without a connection nothing was asked; an answer that breaks off may be billed.
    return Outcome.SERVER_ERROR if error.startswith(NOT_CONNECTED) else Outcome.MALFORMED


def _priced(model: Model) -> Price:
    if model.price is None or model.price.most(1, 1) is None:
        raise LabError(f"the price of {model.model_id} is unknown, so what an episode costs is: give it a price card")
    return model.price
