"""One engine on NumPy and torch: equal outcomes to the last bit, on every device that is there.

On CUDA one figure is looser: the reward, where a product and a sum are rounded once instead of twice.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from responses_db import LabError
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.arrays import Arrays, NumpyArrays, TorchArrays, arrays, golden_steps
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.randomness import GOLDEN, episode_words
from xrouter_sim.engine.semantics import Action
from xrouter_sim.engine.simulator import Simulator

REPLAY = tiny_replay(queries=60, samples=2)
PUBLISHED = (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)
"""First outputs of splitmix64 seeded with 1234567, as Vigna's splitmix64.c gives them."""

BACKENDS = [
    NumpyArrays(),
    TorchArrays(),
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


class Masked(NumpyArrays):
    """NumPy that never compacts: the way a GPU goes, on a machine that has none."""

    compacts = False
    chunk = 1 << 40


@pytest.mark.parametrize("xp", BACKENDS)
def test_streams_give_the_published_outputs(xp):
    xp = TorchArrays("cuda") if xp == "cuda" else xp
    steps = xp.put_in(golden_steps(np.arange(1, 6, dtype=np.uint64)))
    outputs = as_numpy(xp.stream(steps + 1234567)).view(np.uint64)
    assert outputs.tolist() == list(PUBLISHED)
    assert GOLDEN == 0x9E3779B97F4A7C15


def as_numpy(values):
    return values if isinstance(values, np.ndarray) else values.cpu().numpy()


@st.composite
def plans(draw):
    """Actions for a batch of episodes, turn by turn: arms (−1: none) and finals."""
    batch, turns, width = draw(st.integers(1, 12)), draw(st.integers(1, 7)), draw(st.integers(1, 3))
    finals = st.sampled_from([-1, -1, -1, -2, -3, -4, -4, -5, -6, 0, 1, 3])
    calls = draw(st.lists(st.integers(-1, 2), min_size=batch * turns * width, max_size=batch * turns * width))
    final = draw(st.lists(finals, min_size=batch * turns, max_size=batch * turns))
    return np.array(calls).reshape(turns, batch, width), np.array(final).reshape(turns, batch)


def outcome(xp: Arrays, profile: str, seed: int, plan, limits: bool) -> dict[str, np.ndarray]:
    calls, finals = plan
    batch = calls.shape[1]
    world = Simulator(REPLAY, Profile.load(profile), seed, 0.002, xp=xp, direct_arm=1, vote_weights=[1.0, 2.0, 4.5])
    number = xp.put_in(np.arange(batch))
    extra = {"budget": xp.full(batch, 0.0007), "deadline": xp.full(batch, 9.0)} if limits else {}
    episodes = world.reset(number * 7 % 60, number * 13, xp.full(batch, 1.5), **extra)
    seen = []
    for turn in range(len(calls)):
        world.step(episodes, Action(xp.put_in(calls[turn]), xp.put_in(finals[turn])))
        observation = world.observe(episodes)
        parts = ("price", "on_offer", "arm", "outcome", "answer", "evidence", "attempts", "last_turn", "cost", "time")
        seen.append({f"{turn}/{name}": as_numpy(getattr(observation, name)) for name in parts})
    done = as_numpy(episodes.done)
    ended = {name: as_numpy(getattr(episodes, name))[done] for name in ("ending", "final", "score", "reward")}
    return {name: values for part in seen for name, values in part.items()} | ended | {"done": done}


@settings(max_examples=60, deadline=None)
@given(plan=plans(), profile=st.sampled_from(["calm", "stormy", "realistic"]), limits=st.booleans())
def test_backends_agree_to_the_last_bit(plan, profile, limits):
    expected = outcome(NumpyArrays(), profile, 3, plan, limits)
    for xp in [TorchArrays(), Masked(), *([TorchArrays("cuda")] if torch.cuda.is_available() else [])]:
        found = outcome(xp, profile, 3, plan, limits)
        for name, values in expected.items():
            fused = xp.name == "torch:cuda" and name == "reward"
            same = np.allclose(values, found[name], rtol=1e-12, atol=0.0) if fused else values == found[name]
            assert values.shape == found[name].shape
            assert np.all(same), (xp.name, name)


def test_the_chunk_changes_nothing():
    plan = (np.arange(5 * 12 * 2).reshape(5, 12, 2) % 4 - 1, np.full((5, 12), -1))
    small = NumpyArrays()
    small.chunk = 5
    whole, cut = (outcome(xp, "stormy", 1, plan, False) for xp in (NumpyArrays(), small))
    assert all(np.array_equal(values, cut[name]) for name, values in whole.items())


def test_words_on_the_backend_are_those_of_the_generator():
    world = Simulator(REPLAY, Profile.load("stormy"), 7, 0.002)
    key = np.arange(100)
    episodes = world.reset(key % 60, key, np.ones(100))
    row = (episode_words(7, key) >> 20) & (len(world.world.price) - 1)
    assert np.array_equal(episodes.world, row * 3)


def test_torch_shares_the_memory_of_the_replay():
    xp = TorchArrays()
    values = np.arange(4.0)
    xp.put_in(values)[0] = 5.0
    assert values[0] == 5.0


def test_a_backend_that_is_not_there_is_refused():
    assert arrays("torch").name == "torch:cpu"
    with pytest.raises(LabError, match="no array backend 'jax'"):
        arrays("jax")
    if not torch.cuda.is_available():
        with pytest.raises(LabError, match="no GPU"):
            arrays("torch:cuda")
