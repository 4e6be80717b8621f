"""The live engine follows the page of `semantics`: what it records, played in the simulator, is the same trace."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from responses_db import LabError, ResponseStore
from responses_db.providers.base import Endpoint, Model, Price
from responses_db.providers.openai import OpenAIProvider
from responses_db.query import Query
from tests.xrouter_sim.test_trace import anything
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.bench.endpoint import Behaviour, running_endpoint
from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.live import Arm, Limits, LiveEngine, Reply
from xrouter_sim.engine.live_client import open_asker, outcome_of
from xrouter_sim.engine.live_view import HEDGES
from xrouter_sim.engine.profile import Client, Profile
from xrouter_sim.engine.recording import TracedSimulator
from xrouter_sim.engine.replaying import replayed
from xrouter_sim.engine.rollout import Policy, play
from xrouter_sim.engine.semantics import NO_CALL, Action, Final, Outcome
from xrouter_sim.engine.trace import EpisodeTrace, differences
from xrouter_sim.pipeline import make
from xrouter_sim.replay import Replay

MODELS = ["a", "b", "c"]
CLIENT = Client(timeout_s=20.0, backoff_s=2.0)
UNIT = 0.002
SHARES = {"ok": 0.55, "429": 0.1, "500": 0.1, "hang": 0.05, "late": 0.05, "empty": 0.05, "cut": 0.04, "no": 0.03}


class Scripted:
    """A provider whose n-th reply to an arm is drawn from a seed: all that can happen, at once and without a clock."""

    provenance = "simulated"

    def __init__(self, seed: int) -> None:
        self.seed, self.asked, self.attempts = seed, Counter[str](), 0

    async def ask(self, arm: Arm, sample: int, query: Query, timeout_s: float) -> Reply:
        await asyncio.sleep(0)
        self.attempts += 1
        self.asked[arm.model] += 1
        draw = random.Random(f"{self.seed} {arm.model} {self.asked[arm.model]}")
        kind, cost = draw.choices(list(SHARES), list(SHARES.values()))[0], 0.0004 * (1 + draw.random())
        seconds = 1.0 + 5.0 * draw.random() + (30.0 if kind == "late" else 0.0)
        if kind == "hang" or seconds > timeout_s:
            return Reply(Outcome.TIMEOUT, None, timeout_s, cost)
        if kind in ("429", "500"):
            return Reply(Outcome.RATE_LIMITED if kind == "429" else Outcome.SERVER_ERROR, None, 0.3, 0.0)
        if kind == "no":
            return Reply(Outcome.REFUSED, "I would rather not.", seconds, cost)
        text = "" if kind == "empty" else f"Perhaps.\nAnswer: {draw.choice([41, 42, 42, 43])}"
        return Reply(Outcome.TRUNCATED if kind == "cut" else Outcome.OK, text, seconds, cost, -0.3)


class FromReplay:
    """Answers with what a replay holds: a live world that is the recorded one."""

    provenance = "simulated"

    def __init__(self, replay: Replay) -> None:
        self.replay = replay

    async def ask(self, arm: Arm, sample: int, query: Query, timeout_s: float) -> Reply:
        place = self.replay.query_ids.index(query.query_id), self.replay.model_ids.index(arm.model), sample
        text = f"Answer: {self.replay.answer[place]}"
        return Reply(Outcome.OK, text, float(self.replay.latency_s[place]), float(self.replay.cost_usd[place]))


def query(number: int = 0, grader: str = "numeric", query_id: str | None = None, reference: str = "42") -> Query:
    message = {"role": "user", "content": f"What is 40 + {number}?"}
    return Query(query_id or f"live/{number}", "live", "sums", [message], "What?", reference, grader, "test")


def engine(asker: Any, *, samples: int = 2, client: Client = CLIENT, seed: int = 5, **own: Any) -> LiveEngine:
    async def no_wait(seconds: float) -> None:
        assert seconds >= 0

    settings = {"seed": seed, "cost_unit": UNIT, "samples": samples, "sleep": no_wait} | own
    return LiveEngine(asker, MODELS, {"plain": ""}, client=client, **settings)


def run(episode: Coroutine[Any, Any, EpisodeTrace]) -> EpisodeTrace:
    return asyncio.run(episode)


def doing(*turns: tuple[list[int], int]) -> Policy:
    """Calls and final of one turn after another."""

    def act(observation: Observation) -> Action:
        calls, final = turns[int(observation.turn[0])]
        return Action(np.array([calls or [NO_CALL]]), np.array([int(final)]))

    return act


# --- parity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "own"),
    [
        (Limits(), {}),
        (Limits(), {"samples": 1, "direct_arm": 1}),
        (Limits(deadline_s=12.0), {"vote_weights": [1.0, 1.5, 2.7]}),
        (Limits(budget_usd=0.0011), {"direct_arm": 2}),
        (Limits(budget_usd=0.002, deadline_s=30.0), {"samples": 3, "client": Client(attempts=5, max_calls=4)}),
    ],
)
def test_a_recorded_live_episode_replayed_in_the_simulator_is_the_same_trace(limits: Limits, own: dict) -> None:
    seen = Counter[str]()
    for number in range(50):
        away = () if number % 3 else (MODELS[number % 2],)
        live = engine(Scripted(number), **own)
        trace = run(live.play(anything, query(number), episode=number, penalty=0.5, limits=limits, away=away))
        assert differences(trace, replayed(trace), tolerance=1e-9) == []
        assert differences(trace, replayed(EpisodeTrace.from_json(trace.to_json()))) == [], "from a file as well"
        seen.update(each.outcome for one in trace.calls for each in one.attempts)
        seen.update(one.outcome for one in trace.calls if not one.attempts)
        seen["cached"] += sum(one.cached for one in trace.calls)
        seen["unsent"] += sum(not each.sent for one in trace.calls for each in one.attempts)
        seen[trace.end.how] += 1
    expected = {"ok", "timeout", "rate_limited", "server_error", "malformed", "truncated", "refused", "unavailable"}
    expected |= {"vote", "weighted_vote", "adopt", "select", "none", "cached"}
    expected |= {"over_limit"} if limits != Limits() else set()
    expected |= {"unsent"} if limits.deadline_s == 12.0 else set()
    assert expected <= set(seen)


@pytest.mark.parametrize("name", ["anything", "random", "table"])
def test_a_live_world_that_is_the_recorded_one_gives_the_simulated_episode(name: str) -> None:
    replay = tiny_replay()
    policy: Policy = anything
    if name != "anything":
        router = make(name, replay)
        router.fit(replay, replay.indices("train"), UNIT, 0)
        policy = router.act
    own = {"direct_arm": 0, "vote_weights": [1.0, 1.5, 2.7]}
    simulator = TracedSimulator(replay, Profile(client=CLIENT), 5, UNIT, **own)
    episodes = play(policy, simulator, np.arange(30), np.arange(30), np.full(30, 0.5))
    simulated = simulator.traces(episodes, "x", answers_of(replay))
    for number, expected in enumerate(simulated):
        asked = query(query_id=replay.query_ids[number], reference="0")
        live = engine(FromReplay(replay), **own)
        trace = run(live.play(policy, asked, episode=number, penalty=0.5, place=number))
        assert differences(trace, expected) == []


def answers_of(replay: Replay) -> dict:
    """Texts as FromReplay gives them; right answers are 0 there."""
    cells = np.ndindex(replay.answer.shape)
    texts = {}
    for cell in cells:
        answer = str(replay.answer[cell])
        place = (replay.query_ids[cell[0]], replay.model_ids[cell[1]], "plain", cell[2])
        texts[place] = (f"Answer: {answer}", answer)
    return texts


def test_over_http_real_failures_are_told_apart_and_the_trace_is_reproduced() -> None:
    faults = {"429": 0.2, "500": 0.15, "malformed": 0.1, "cut": 0.1, "hang": 0.1}
    client = Client(timeout_s=0.4, backoff_s=0.01, attempts=4)
    with running_endpoint(Behaviour(faults=faults, seed=3, keep_ledger=True)) as url:
        traces = asyncio.run(_over_http(url, client))
    assert {each.outcome for trace in traces for one in trace.calls for each in one.attempts} >= {
        *("ok", "rate_limited", "server_error", "malformed", "timeout")
    }
    for trace in traces:
        assert trace.label == "live episode over local answers"
        assert differences(trace, replayed(trace)) == []
        for one in trace.calls:
            for each in one.attempts:
                free = each.outcome in ("rate_limited", "server_error")
                assert (each.cost_usd == 0.0) == free, "what may have been billed is never taken for nothing"


async def _over_http(url: str, client: Client) -> list[EpisodeTrace]:
    price = Price(1.0, 4.0, None, date(2026, 1, 1), "the test")
    models = [Model(name, name, price) for name in MODELS]
    provider = OpenAIProvider("loopback", Endpoint(url), models, {}, concurrency=30)
    queries = [query(number) for number in range(6)]
    async with open_asker([provider], queries, max_tokens=64) as asker:
        live = LiveEngine(asker, MODELS, {"plain": "Think."}, client=client, seed=1, cost_unit=UNIT)
        act = doing(([0, 1, 2], Final.CONTINUE), ([], Final.VOTE))
        return await asyncio.gather(
            *(live.play(act, each, episode=number, penalty=1.0) for number, each in enumerate(queries))
        )


# --- the page, point by point -----------------------------------------------------------------------------------------


def test_parallel_calls_are_under_way_together() -> None:
    class Together:
        provenance = "simulated"

        def __init__(self) -> None:
            self.barrier = asyncio.Barrier(3)

        async def ask(self, arm: Arm, sample: int, query: Query, timeout_s: float) -> Reply:
            await self.barrier.wait()  # passes only once all three are here
            return Reply(Outcome.OK, "Answer: 42", 3.0, 0.001)

    async def episode() -> EpisodeTrace:
        act = doing(([0, 1, 2], Final.VOTE))
        return await asyncio.wait_for(engine(Together()).play(act, query(), episode=0, penalty=0.5), 30)

    trace = run(episode())
    assert (trace.time_s, trace.cost_usd) == (3.0, pytest.approx(0.003))
    assert trace.end.reward == pytest.approx(1 - 0.5 * 0.003 / UNIT)


def replies(*kinds: Outcome, text: str = "Answer: 42") -> Any:
    class Asker(Scripted):
        async def ask(self, arm: Arm, sample: int, query: Query, timeout_s: float) -> Reply:
            kind = kinds[min(self.attempts, len(kinds) - 1)]
            self.attempts += 1
            return Reply(kind, text if kind in (Outcome.OK, Outcome.TRUNCATED) else None, 1.0, 0.001)

    return Asker(0)


@pytest.mark.parametrize(
    ("kinds", "attempts"),
    [
        ((Outcome.OK,), 1),
        ((Outcome.RATE_LIMITED, Outcome.OK), 2),
        ((Outcome.SERVER_ERROR, Outcome.TIMEOUT, Outcome.OK), 3),
        ((Outcome.MALFORMED,), 3),
        ((Outcome.TRUNCATED,), 1),
        ((Outcome.REFUSED,), 1),
        ((Outcome.FAILED,), 1),
    ],
)
def test_what_may_pass_is_tried_again_with_growing_waits(kinds: tuple[Outcome, ...], attempts: int) -> None:
    asker = replies(*kinds)
    act = doing(([1], Final.CONTINUE), ([], 0))
    trace = run(engine(asker).play(act, query(), episode=0, penalty=0.5))
    (call,) = trace.calls
    assert asker.attempts == len(call.attempts) == attempts
    waits = [each.waited_s for each in call.attempts]
    assert waits[0] == 0.0
    for number, wait in enumerate(waits[1:]):
        assert 0.5 <= wait / (CLIENT.backoff_s * 2**number) <= 1.5


def test_an_answer_that_cannot_be_read_is_malformed_paid_for_and_tried_again() -> None:
    trace = run(engine(replies(Outcome.OK, text="Well.")).play(doing(([0], 0)), query(), episode=0, penalty=0.5))
    (call,) = trace.calls
    assert [each.outcome for each in call.attempts] == ["malformed"] * 3
    assert trace.cost_usd == pytest.approx(0.003)
    assert trace.end.score == 0.0


def test_the_same_call_again_comes_from_the_cache() -> None:
    asker = replies(Outcome.OK)
    act = doing(([0], Final.CONTINUE), ([0, 0], Final.ADOPT))
    trace = run(engine(asker, samples=1).play(act, query(), episode=0, penalty=0.5))
    assert [call.cached for call in trace.calls] == [False, True, True]
    assert asker.attempts == 1
    assert trace.cost_usd == 0.001
    assert trace.end.score == 1.0


def test_a_router_sees_prices_answers_and_errors_and_never_a_score() -> None:
    seen: list[Observation] = []

    def act(observation: Observation) -> Action:
        seen.append(observation)
        calls, final = (([0, 1], Final.CONTINUE), ([], 0))[int(observation.turn[0])]
        return Action(np.array([calls or [NO_CALL]]), np.array([int(final)]))

    run(engine(replies(Outcome.OK)).play(act, query(), episode=0, penalty=0.5, away=("b",), place=7))
    last = seen[-1]
    assert last.query.tolist() == [7]
    assert last.on_offer.tolist() == [[True, False, True]]
    assert last.price.tolist() == [[1.0, 1.0, 1.0]]
    assert last.outcome[0, :3].tolist() == [Outcome.OK, Outcome.UNAVAILABLE, NO_CALL]
    assert last.answer[0, :2].tolist() == [0, -1]
    assert last.ok[0, :2].tolist() == [True, False]
    assert last.evidence[0, 0, 3] == 1.0
    assert not last.last_turn[0]
    assert not {"score", "reward"} & set(dir(last))


def test_a_grade_that_comes_later_pays_no_reward_now() -> None:
    for grader in ("judge", "imported"):
        with pytest.raises(LabError, match=f"grader '{grader}' gives no grade at once"):
            run(engine(Scripted(0)).play(anything, query(grader=grader), episode=0, penalty=0.5))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("HTTP 429: slow down", Outcome.RATE_LIMITED),
        ("HTTP 503: busy", Outcome.SERVER_ERROR),
        ("HTTP 408: late", Outcome.SERVER_ERROR),
        ("HTTP 401: who are you", Outcome.FAILED),
        ("timeout after 3 s", Outcome.TIMEOUT),
        ("malformed response: no JSON", Outcome.MALFORMED),
        ("ClientConnectorError: refused", Outcome.SERVER_ERROR),
        ("ClientPayloadError: cut off", Outcome.MALFORMED),
    ],
)
def test_what_the_client_says_as_an_outcome(error: str, outcome: Outcome) -> None:
    assert outcome_of(error) == outcome


def test_hedges_are_counted_as_the_store_counts_them(tmp_path: Path) -> None:
    texts = ["Perhaps; maybe not entirely sure.", "I THINK so, roughly", "certain", "", "possibly\nprobably I guess"]
    with ResponseStore(tmp_path / "x.duckdb", write=True) as store:
        counted = [store.frame("SELECT hedges_in(?)", [text]).item() for text in texts]
    assert [len(HEDGES.findall(text)) for text in texts] == counted
    assert counted[0] == 3
