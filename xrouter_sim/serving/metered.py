"""Asks providers for one request: a call is held in the ledger before it is sent and charged after it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from responses_db.admission import most_usd
from responses_db.cells import Cell
from responses_db.completion import Usage
from responses_db.providers.client import ChatClient, Failure
from responses_db.providers.client import Reply as Came
from responses_db.query import Query
from xrouter_sim.engine.live import Arm, Reply
from xrouter_sim.engine.live_client import ChatAsker
from xrouter_sim.engine.semantics import Outcome
from xrouter_sim.serving.asked import Asked
from xrouter_sim.serving.ledger import Ledger


class BrokenOff(Exception):  # noqa: N818  # said to the client, who has heard a part
    """An answer broke off when part of it had been passed on: it cannot be asked for again unnoticed."""


@dataclass
class Mouth:
    """Where pieces of text go at once. `open` while the router has said that the call's answer will be the final one,
    whatever it is."""

    say: Callable[[str], None]
    open: bool = False
    said: bool = False

    def hear(self, piece: str) -> None:
        self.said = True
        self.say(piece)


@dataclass
class Account:
    """Who pays for a request, and the most that it may cost."""

    ledger: Ledger
    key_id: int
    request_id: str
    budget_usd: float | None = None
    taken_usd: float = 0.0
    """Held and charged for this request so far."""
    usages: dict[tuple[str, str, int], Usage] = field(default_factory=dict)
    refused: bool = False
    """Whether a call was not made for want of budget."""


class MeteredAsker(ChatAsker):
    """A ChatAsker on open connections, for one request."""

    def __init__(self, asker: ChatAsker, asked: Asked, account: Account, mouth: Mouth | None) -> None:
        super().__init__(asker.lines, asker.max_tokens)
        self.asked, self.account, self.mouth = asked, account, mouth

    async def ask(self, arm: Arm, sample: int, query: Query, timeout_s: float) -> Reply:
        """As ChatAsker's; OVER_LIMIT where the money does not reach."""
        account, cell = self.account, self.cell(arm, sample, query)
        most = most_usd(cell, cell.request())
        within = account.budget_usd is None or account.taken_usd + most <= account.budget_usd
        hold = None
        if within:
            account.taken_usd += most
            hold = await account.ledger.hold(account.key_id, account.request_id, arm.model, most)
        if hold is None:
            account.taken_usd -= most if within else 0.0
            account.refused = True
            return Reply(Outcome.OVER_LIMIT, None, 0.0, 0.0)
        try:
            reply = await super().ask(arm, sample, query, timeout_s)
        except BaseException:  # cancelled, or broken off
            account.ledger.settle_in_full(hold)
            raise
        account.taken_usd += reply.cost_usd - most
        if reply.usage:
            account.usages[arm.model, arm.prompt_style, sample] = reply.usage
        await asyncio.shield(account.ledger.settle(hold, reply.cost_usd, reply.status.name.lower()))
        return reply

    def cell(self, arm: Arm, sample: int, query: Query) -> Cell:
        """With what the client wants passed on, which is over what the config says."""
        cell, asked = super().cell(arm, sample, query), self.asked
        streamed = {"stream": True, "stream_options": {"include_usage": True}} if self._speaks else {}
        parameters = {**cell.model.parameters, **asked.parameters, **streamed}
        most = cell.max_tokens if asked.max_tokens is None else min(cell.max_tokens, asked.max_tokens)
        return replace(cell, model=replace(cell.model, parameters=parameters), max_tokens=most)

    async def send(self, client: ChatClient, body: bytes) -> Came | Failure:
        if not self._speaks:
            return await super().send(client, body)
        assert self.mouth is not None
        came = await client.stream(body, self.mouth.hear)
        if isinstance(came, Failure) and self.mouth.said:
            raise BrokenOff(came.error)
        return came

    @property
    def _speaks(self) -> bool:
        return self.mouth is not None and self.mouth.open
