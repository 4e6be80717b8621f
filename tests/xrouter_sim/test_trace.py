"""Traces: what happened in an episode, as the engine did it, in a file, and played again."""

import dataclasses
import json

import numpy as np
import pytest

from responses_db import LabError
from tests.xrouter_sim.tiny import tiny_replay
from tests.xrouter_sim.turns import outcome_of
from xrouter_sim.engine.episodes import Episodes, Observation
from xrouter_sim.engine.profile import Client, Failures, Latency, Pools, Profile
from xrouter_sim.engine.recording import TracedSimulator
from xrouter_sim.engine.replaying import replayed
from xrouter_sim.engine.rollout import Policy, play
from xrouter_sim.engine.semantics import Action, Final, Outcome
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.engine.trace import EpisodeTrace, differences, read_traces, write_traces
from xrouter_sim.pipeline import make

UNIT, EPISODES = 0.002, 200
STORMY = Profile.load("stormy")


def policies() -> dict[str, Policy]:
    """Real routers, and one that does everything there is: parallel and repeated calls, votes, direct answers."""
    replay = tiny_replay()
    found: dict[str, Policy] = {"anything": anything}
    for name in ("random", "cascade"):
        router = make(name, replay)
        router.fit(replay, replay.indices("train"), UNIT, 0)
        found[name] = router.act
    return found


def anything(observation: Observation) -> Action:
    """Some action, by the episode's number and the turn."""
    number = observation.key * 7 + observation.turn * 3
    finals = np.array([-1, Final.VOTE, Final.ADOPT, -1, Final.DIRECT, Final.WEIGHTED_VOTE, 1, Final.NONE, -1])
    calls = np.stack([number % 4 - 1, (number // 4) % 4 - 1, (number // 16) % 4 - 1], axis=1)
    return Action(calls, finals[(number // 5) % len(finals)])


def traced(policy: Policy, profile: Profile, **limits: float) -> tuple[Episodes, list[EpisodeTrace]]:
    simulator = TracedSimulator(tiny_replay(), profile, 3, UNIT, direct_arm=1, vote_weights=[1.0, 1.5, 2.5])
    query, key, penalty = np.arange(EPISODES) % 120, np.arange(EPISODES), np.full(EPISODES, 0.5)
    if not limits:
        episodes = play(policy, simulator, query, key, penalty)
        return episodes, simulator.traces(episodes, "x")
    bounds = {name: np.full(EPISODES, value) for name, value in limits.items()}
    episodes = simulator.reset(query, key, penalty, **bounds)
    while not episodes.done.all():
        simulator.step(episodes, policy(simulator.observe(episodes)))
    return episodes, simulator.traces(episodes, "x")


@pytest.fixture(scope="module")
def stormy() -> tuple[Episodes, list[EpisodeTrace]]:
    return traced(anything, STORMY)


@pytest.mark.parametrize("name", ["anything", "random", "cascade"])
def test_a_traced_run_has_the_outcomes_of_an_untraced_one(name: str) -> None:
    plain = Simulator(tiny_replay(), STORMY, 3, UNIT, direct_arm=1, vote_weights=[1.0, 1.5, 2.5])
    query, key, penalty = np.arange(EPISODES) % 120, np.arange(EPISODES), np.full(EPISODES, 0.5)
    expected = outcome_of(play(policies()[name], plain, query, key, penalty))
    found, _ = traced(policies()[name], STORMY)
    for field, values in outcome_of(found).items():
        assert np.array_equal(values, expected[field]), field


def test_attempts_add_up_to_the_call_and_calls_to_the_episode(stormy: tuple[Episodes, list[EpisodeTrace]]) -> None:
    episodes, traces = stormy
    for row, trace in enumerate(traces):
        for call in trace.calls:
            cost = seconds = 0.0
            for attempt in call.attempts:
                cost += attempt.cost_usd
                seconds = seconds + attempt.waited_s + attempt.seconds
            assert (cost, seconds) == (call.cost_usd, call.seconds)
            assert (call.cost_usd, call.seconds) == (
                episodes.slot_cost[call.slot, row],
                episodes.slot_time[call.slot, row],
            )
            never_sent = call.cached or call.outcome in ("unavailable", "over_limit")
            assert bool(call.attempts) == (not never_sent)
        assert [call.slot for call in trace.calls] == list(range(episodes.n_slots[row]))
        clock = sum(max((call.seconds for call in turn.calls), default=0.0) for turn in trace.turns)
        assert clock == pytest.approx(trace.time_s, abs=1e-9)
        assert sum(call.cost_usd for call in trace.calls) == pytest.approx(trace.cost_usd, abs=1e-12)
        assert (trace.turns[-1].cost_usd, trace.turns[-1].time_s) == (episodes.cost[row], episodes.time[row])


def test_the_stormy_traces_show_all_there_is(stormy: tuple[Episodes, list[EpisodeTrace]]) -> None:
    _, traces = stormy
    seen = {attempt.outcome for trace in traces for call in trace.calls for attempt in call.attempts}
    assert seen == {"ok", "timeout", "rate_limited", "server_error", "malformed", "truncated", "refused"}
    assert {call.outcome for trace in traces for call in trace.calls} > {"unavailable"}
    assert any(call.cached for trace in traces for call in trace.calls)
    assert {trace.end.how for trace in traces} >= {"vote", "weighted_vote", "adopt", "direct", "select", "none"}
    assert {trace.label for trace in traces} == {"simulated episode over simulated answers"}


@pytest.mark.parametrize(
    ("profile", "limits"),
    [
        (Profile(), {}),
        (STORMY, {}),
        (STORMY, {"deadline": 30.0}),
        (Profile(failures=Failures(server_error=0.5), client=Client(backoff_s=4.0)), {"deadline": 9.0}),
        (Profile(latency=Latency(sigma=1.0), client=Client(timeout_s=3.0)), {"deadline": 7.0, "budget": 0.0015}),
        (Profile(pools=Pools(drop=0.5, least=1, shuffle=True)), {"budget": 0.0006}),
    ],
)
def test_a_trace_played_again_is_the_same_trace(profile: Profile, limits: dict[str, float]) -> None:
    for trace in traced(anything, profile, **limits)[1][:80]:
        assert differences(trace, replayed(trace), tolerance=0.0) == []


def test_a_trace_that_was_tampered_with_is_not_reproduced(stormy: tuple[Episodes, list[EpisodeTrace]]) -> None:
    trace = next(trace for trace in stormy[1] if len(trace.calls) > 1 and trace.end.score == 1)
    wrong_bill = dataclasses.replace(trace, cost_usd=trace.cost_usd + 1e-6)
    assert differences(wrong_bill, replayed(wrong_bill))
    turns = [dataclasses.replace(turn, final="none", selected=None) for turn in trace.turns]
    other_end = dataclasses.replace(trace, turns=turns)
    assert differences(other_end, replayed(other_end))


def test_only_the_first_rows_are_kept() -> None:
    simulator = TracedSimulator(tiny_replay(), STORMY, 3, UNIT, most=5)
    episodes = play(anything, simulator, np.arange(50), np.arange(50), np.ones(50))
    assert [trace.episode for trace in simulator.traces(episodes, "x")] == [0, 1, 2, 3, 4]


def test_texts_are_shown_where_a_response_arrived_whole() -> None:
    replay = tiny_replay(samples=1)
    simulator = TracedSimulator(replay, Profile(failures=Failures(truncated=0.4)), 0, UNIT)
    episodes = play(lambda seen: Action.call(np.full(len(seen), 2), Final.ADOPT), simulator, *begin(20))
    texts = {(query, "c", "plain", 0): (f"It is {query}.", query) for query in replay.query_ids}
    for trace in simulator.traces(episodes, "x", texts):
        for call in trace.calls:
            whole = call.outcome == "ok"
            assert call.text == (f"It is {trace.query_id}." if whole else None)
            assert call.answer == (trace.query_id if whole else None)
            if not whole and not call.cached:
                assert call.score == 0.0
        if trace.end.slot is not None:
            assert trace.end.answer == trace.query_id


def begin(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.arange(n), np.arange(n), np.ones(n)


def test_a_file_of_traces_reads_back_as_it_was(tmp_path, stormy: tuple[Episodes, list[EpisodeTrace]]) -> None:
    path = tmp_path / "traces.jsonl"
    write_traces(stormy[1], path)
    assert list(read_traces(path)) == stormy[1]
    first = json.loads(path.read_text().splitlines()[0])
    assert first["profile"]["failures"]["timeout"] == STORMY.failures.timeout
    assert first["budget_usd"] is None, "no limit is null, not Infinity"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}\n", "line 1 is no trace"),
        ('{"format": 99}\n', "no trace of form 1"),
        ("no json\n", "line 1 is no trace"),
        ('{"format": 1, "pool": [], "turns": [], "end": {}}', "line 1 is no trace"),
    ],
)
def test_what_is_no_trace_is_named(tmp_path, text: str, complaint: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(LabError, match=complaint):
        list(read_traces(path))
    with pytest.raises(LabError, match="no trace at"):
        list(read_traces(tmp_path / "y.jsonl"))
    with pytest.raises(LabError, match="no folder"):
        write_traces([], tmp_path / "gone" / "x.jsonl")


def test_every_outcome_has_its_word() -> None:
    assert [outcome.name.lower() for outcome in Outcome] == [
        *("ok", "timeout", "rate_limited", "server_error", "malformed", "truncated", "refused", "failed"),
        *("unavailable", "over_limit"),
    ]
