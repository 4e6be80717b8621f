"""One engine, three faces: the same seed and actions give the same episode through each of them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xrouter_sim.faces import CodeTexts, assert_same, played, through_tools, trace_of
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.semantics import NO_CALL, Action
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.gym import RoutingEnv
from xrouter_sim.envs.tools import ToolRoutingEnv
from xrouter_sim.envs.vector import ENDED, VectorRoutingEnv

REPLAY = tiny_replay(queries=60, samples=2)
TRAIN = REPLAY.indices("train")
OPTIONS = {"penalties": (0.0, 0.5, 2.0)}
WIDTH = 3
ACTIONS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2), max_size=WIDTH),
        st.sampled_from([-1, -1, -1, *(f for f in range(-6, 4) if f != -5)]),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=80, deadline=None)
@given(actions=ACTIONS, key=st.integers(0, 2**30), profile=st.sampled_from(["calm", "realistic", "stormy"]))
def test_three_faces_give_the_same_trace(actions, key, profile):
    def world() -> Simulator:
        return Simulator(REPLAY, Profile.load(profile), 3, 0.002, vote_weights=[1.0, 2.0, 4.5])

    tools = ToolRoutingEnv(world(), TRAIN, texts=CodeTexts(REPLAY), **OPTIONS)
    one = RoutingEnv(world(), TRAIN, width=WIDTH, **OPTIONS)
    many = VectorRoutingEnv(world(), TRAIN, 2, width=WIDTH, **OPTIONS)
    tools.reset(key=key)
    one.reset(options={"first_key": key})
    many.reset(options={"first_key": key})
    query, penalty = int(tools.episodes.query[0]), float(tools.episodes.penalty[0])
    for calls, final in actions:
        through_tools(tools, calls, final)
    rewards, ended = [0.0], None
    for calls, final in tools.steps:
        padded = np.array([[*calls, *[NO_CALL] * (WIDTH - len(calls))]])
        code = many.code.encode(Action(padded, np.array([int(final)])))
        one.step(code[0])
        _, reward, done, _, infos = many.step(np.repeat(code, 2, axis=0))
        rewards.append(float(reward[0]))
        if done[0]:
            ended = {name: infos["episode"][name][0] for name in ENDED}
    engine = played(world(), query, key, penalty, tools.steps)
    assert_same(trace_of(tools.episodes), trace_of(engine))
    assert_same(trace_of(one._one.episodes), trace_of(engine))
    assert (ended is not None) == bool(engine.done[0])
    if ended is not None:
        assert ended == {name: getattr(engine, name)[0] for name in ENDED}
    assert sum(rewards) == (float(engine.reward[0]) if engine.done[0] else 0.0)
