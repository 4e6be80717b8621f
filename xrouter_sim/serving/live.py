"""Answers from providers, by the live orchestration engine: retries, fallbacks, a bill that is held first."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from responses_db import LabError
from responses_db.harvest_config import read_prompt_styles, read_providers
from responses_db.providers import Provider
from responses_db.query import Query, digest
from responses_db.toml_table import Table, read_toml
from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.live import UNGRADED, Limits, LiveEngine
from xrouter_sim.engine.live_client import ChatAsker, open_asker
from xrouter_sim.engine.profile import Client
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.routers.base import Router
from xrouter_sim.serving.asked import Asked
from xrouter_sim.serving.errors import Refusal
from xrouter_sim.serving.ledger import Ledger
from xrouter_sim.serving.loaded import Loaded
from xrouter_sim.serving.metered import Account, BrokenOff, MeteredAsker, Mouth
from xrouter_sim.serving.served import FINISH, Served, Tokens, chosen, metadata_of

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class ProvidersFile:
    """providers.toml, checked. It has the tables of a harvest's config, without tasks."""

    providers: list[Provider]
    prompt_styles: dict[str, str]
    max_tokens: int
    client: Client = field(default_factory=Client)


def read_providers_file(path: Path) -> ProvidersFile:
    """LabError for the first mistake found."""
    table = read_toml(path)
    most, styles = table.integer("max_tokens", 4096, least=1, most=2**31 - 1), read_prompt_styles(table)
    client = Table(table.mapping("client", {}), f"{path}, [client]")
    providers = read_providers(table, table.integer("seed", 0))
    table.finish()
    whole = {"attempts", "max_turns", "max_calls"}
    settings = {
        each.name: client.integer(each.name, default, least=1)
        if each.name in whole
        else client.number(each.name, default)
        for each in fields(Client)
        if (default := TIMEOUT_S if each.name == "timeout_s" else each.default) is not None
    }
    client.finish()
    return ProvidersFile(providers, styles, most, Client(**settings))


@dataclass
class Timed:
    """A router's `act`, with what it took; and it opens the mouth for a call whose answer will be the final one."""

    router: Router
    mouth: Mouth | None = None
    seconds: float = 0.0

    def __call__(self, observation: Observation) -> Action:
        began = time.perf_counter()
        action = self.router.act(observation)
        self.seconds += time.perf_counter() - began
        if self.mouth is not None:
            alone = int((action.calls[0] != NO_CALL).sum()) == 1
            self.mouth.open = alone and int(action.final[0]) == Final.ADOPT
        return action


class LiveBackend:
    """A router over open connections. Make one with `open_live`."""

    def __init__(self, loaded: Loaded, file: ProvidersFile, asker: ChatAsker, ledger: Ledger, penalty: float) -> None:
        self.loaded, self.file, self.ledger, self.penalty = loaded, file, ledger, penalty
        self.asker = asker
        self.models = [model for model in loaded.replay.model_ids if model in asker.lines]
        self.domains = loaded.kin.domains
        self.prompt_styles = {style: file.prompt_styles[style] for style in loaded.replay.prompt_styles}

    async def answer(self, asked: Asked, request_id: str, key_id: int, mouth: Mouth | None) -> Served:
        """See `served.Backend`."""
        began, wishes = time.perf_counter(), asked.wishes
        place = self.loaded.kin.place(asked.question, wishes.domain)
        policy = Timed(self.loaded.router, mouth, time.perf_counter() - began)
        account = Account(self.ledger, key_id, request_id, wishes.budget_usd)
        engine = self._engine(MeteredAsker(self.asker, asked, account, mouth))
        offered = set(self.models) & (wishes.pool or set(self.models))
        try:
            trace = await engine.play(
                policy,
                self._query(asked, request_id, place),
                episode=int(digest("episode", asked.seed, asked.question)[:15], 16),
                penalty=self.penalty if wishes.penalty is None else wishes.penalty,
                limits=Limits(wishes.budget_usd, wishes.deadline_s),
                away=[model for model in self.loaded.replay.model_ids if model not in offered],
                place=place,
                router=self.loaded.router.name,
            )
        except ExceptionGroup as group:
            if group.subgroup(BrokenOff) is None:
                raise
            raise Refusal(502, "upstream_error", "broken_off", "the answer broke off half-way: ask again") from None
        known = self.loaded.replay.questions[place] == asked.question
        stand_in = None if known else self.loaded.replay.query_ids[place]
        metadata = metadata_of(trace, policy.seconds, request_id=request_id, routed_as=stand_in)
        call = chosen(trace, metadata, want_of_budget=account.refused)
        usage = account.usages.get((call.model, call.prompt_style, call.sample))
        tokens = Tokens(usage.input, usage.output) if usage else Tokens()
        return Served(call.text or "", FINISH.get(call.outcome, "stop"), tokens, trace, metadata, policy.seconds)

    def _engine(self, asker: MeteredAsker) -> LiveEngine:
        return LiveEngine(
            asker,
            self.loaded.replay.model_ids,
            self.prompt_styles,
            client=self.file.client,
            seed=self.loaded.seed,
            cost_unit=self.loaded.cost_unit,
        )

    def _query(self, asked: Asked, request_id: str, place: int) -> Query:
        domain = asked.wishes.domain or str(self.loaded.replay.domains[place])
        return Query(request_id, "served", domain, asked.messages, asked.question, None, UNGRADED, "served")


@asynccontextmanager
async def open_live(loaded: Loaded, file: ProvidersFile, ledger: Ledger, penalty: float) -> AsyncIterator[LiveBackend]:
    """Connections to the providers. LabError where none of the router's models, or a style, a key or a price is not
    there."""
    check(loaded, file)
    async with open_asker(file.providers, [], file.max_tokens) as asker:
        yield LiveBackend(loaded, file, asker, ledger, penalty)


def check(loaded: Loaded, file: ProvidersFile) -> None:
    """LabError where the file does not fit the router."""
    served = {model.model_id for provider in file.providers for model in provider.models}
    if not served & set(loaded.replay.model_ids):
        raise LabError(
            f"none of the providers' models is one that the router knows: give them as `id` one of "
            f"{', '.join(loaded.replay.model_ids)}"
        )
    if missing := [style for style in loaded.replay.prompt_styles if style not in file.prompt_styles]:
        raise LabError(
            f"the router chooses among the prompt styles {', '.join(loaded.replay.prompt_styles)}: "
            f'write what {missing[0]!r} is under [prompt_styles], "" for no system prompt'
        )
