"""Answers from a store, by the simulated engine: an endpoint that needs no provider and always says the same.

The same request gets the same answer, bill and (virtual) latency, whatever was asked before and however often: for
other people's tests. Under a profile it fails as providers do, in the same places every time.
"""

import asyncio
import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from responses_db import ResponseStore
from responses_db.query import digest
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.recording import Place, TracedSimulator
from xrouter_sim.engine.trace import EpisodeTrace
from xrouter_sim.serving.asked import Asked
from xrouter_sim.serving.errors import invalid
from xrouter_sim.serving.live import Timed
from xrouter_sim.serving.loaded import Loaded
from xrouter_sim.serving.metered import Mouth
from xrouter_sim.serving.served import FINISH, Served, Tokens, chosen, metadata_of

ROWS_SQL = """
SELECT model_id, prompt_style, text, answer, coalesce(input_tokens, 0), coalesce(output_tokens, 0),
    row_number() OVER (PARTITION BY model_id, prompt_style ORDER BY sample_index) - 1 AS sample
FROM graded WHERE query_id = ?
"""

REMEMBERED = 512
"""Queries whose answers are kept in memory, and pools whose worlds are."""


class StoredBackend:
    """A router over what a store holds."""

    def __init__(self, loaded: Loaded, profile: Profile, penalty: float) -> None:
        self.loaded, self.profile, self.penalty = loaded, profile, penalty
        self.models, self.domains = list(loaded.replay.model_ids), loaded.kin.domains
        self._places = {question: place for place, question in reversed(list(enumerate(loaded.replay.questions)))}
        self._rows = lru_cache(REMEMBERED)(self._read)
        self._world = lru_cache(REMEMBERED // 16)(self._compile)
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, asked: Asked, request_id: str, key_id: int, mouth: Mouth | None) -> Served:
        """See `served.Backend`. Nothing is paid for, so the key is not read."""
        place = self._places.get(asked.question)
        if place is None:
            message = "the store holds no such question: the last user message must be one of its `queries.question`"
            raise invalid(message, "not_in_store", 404)
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._play, asked, place, request_id)

    def _play(self, asked: Asked, place: int, request_id: str) -> Served:
        wishes, began = asked.wishes, time.perf_counter()
        world, policy = self._world(wishes.pool), Timed(self.loaded.router)
        rows = self._rows(self.loaded.replay.query_ids[place])
        penalty = self.penalty if wishes.penalty is None else wishes.penalty
        limits: Any = {
            name: None if most is None else np.array([most])
            for name, most in (("budget", wishes.budget_usd), ("deadline", wishes.deadline_s))
        }
        key = int(digest("episode", asked.seed, asked.question)[:15], 16)
        episodes = world.reset(np.array([place]), np.array([key]), np.array([penalty]), **limits)
        while not episodes.done.all():
            world.step(episodes, policy(world.observe(episodes)))
        texts = {at: (row["text"], row["answer"]) for at, row in rows.items()}
        (trace,) = world.traces(episodes, self.loaded.router.name, texts)
        world.forget()
        took = time.perf_counter() - began
        return self._served(trace, rows, policy.seconds, request_id=request_id, served_in_s=round(took, 6))

    def _served(self, trace: EpisodeTrace, rows: dict[Place, Any], decision_s: float, **more: Any) -> Served:
        metadata = metadata_of(trace, decision_s, query_id=trace.query_id, profile=self.profile.name, **more)
        call = chosen(trace, metadata, want_of_budget=False)
        row = rows[trace.query_id, call.model, call.prompt_style, call.sample]
        tokens = Tokens(row["input"], row["output"])
        return Served(call.text or "", FINISH.get(call.outcome, "stop"), tokens, trace, metadata, decision_s)

    def _compile(self, pool: frozenset[str] | None) -> TracedSimulator:
        away = tuple(model for model in self.models if pool is not None and model not in pool)
        held_out = (*self.profile.pools.held_out, *away)
        profile = replace(self.profile, pools=replace(self.profile.pools, held_out=held_out))
        return TracedSimulator(self.loaded.replay, profile, self.loaded.seed, self.loaded.cost_unit)

    def _read(self, query_id: str) -> dict[Place, Any]:
        with ResponseStore(self.loaded.replay.store["path"]) as store:
            rows = store.frame(ROWS_SQL, [query_id]).rows()
        return {
            (query_id, model, style, sample): {"text": text, "answer": answer, "input": told, "output": said}
            for model, style, text, answer, told, said, sample in rows
        }
