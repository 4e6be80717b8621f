"""The Gymnasium faces: they pass Gymnasium's own checks and play the engine's episodes."""

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.arrays import NumpyArrays, TorchArrays
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.semantics import Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.encoding import STATE, ActionCode
from xrouter_sim.envs.gym import RoutingEnv
from xrouter_sim.envs.vector import VectorRoutingEnv
from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Replay

REPLAY = tiny_replay(queries=60, samples=2)
TRAIN = REPLAY.indices("train")
LAMBDAS = (0.0, 0.5, 2.0)


def world(profile: str = "stormy", xp=None) -> Simulator:
    return Simulator(REPLAY, Profile.load(profile), 3, 0.002, xp=xp, direct_arm=1, vote_weights=[1.0, 2.0, 4.5])


@pytest.mark.filterwarnings("ignore:.*Box observation space.*")
@pytest.mark.parametrize("profile", ["calm", "stormy"])
def test_the_scalar_environment_passes_gymnasiums_checks(profile):
    check_env(RoutingEnv(world(profile), TRAIN, penalties=LAMBDAS, width=2), skip_render_check=True)


def test_observations_lie_in_their_spaces():
    spec = FeatureSpec(embedder="hashing", query=("lexical",), response=("errors", "agreement"))
    env = VectorRoutingEnv(world(), TRAIN, 16, penalties=LAMBDAS, spec=spec, width=2)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=5)
    for _ in range(12):
        assert env.observation_space.contains({k: np.ascontiguousarray(v) for k, v in observation.items()})
        observation, reward, done, cut, _ = env.step(env.action_space.sample())
        assert reward[~done].sum() == 0
        assert not cut.any()
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


@st.composite
def scripts(draw):
    """Action codes for B environments over some steps, width 2."""
    batch, steps = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    seed = draw(st.integers(0, 2**32 - 1))
    space = ActionCode(3, 2, 6).space()
    return np.random.default_rng(seed).integers(0, space.nvec, (steps, batch, 3))


def told(infos) -> list[tuple]:
    episode = {name: np.asarray(values) for name, values in infos["episode"].items()}
    return sorted(zip(*(episode[name].tolist() for name in sorted(episode)), strict=True))


@settings(max_examples=40, deadline=None)
@given(script=scripts(), profile=st.sampled_from(["calm", "stormy"]))
def test_scalar_vector_and_torch_faces_agree_step_by_step(script, profile):
    batch = script.shape[1]
    options = {"penalties": LAMBDAS, "width": 2}
    many = VectorRoutingEnv(world(profile), TRAIN, batch, **options)
    tensors = VectorRoutingEnv(world(profile, TorchArrays()), TRAIN, batch, **options)
    ones = [RoutingEnv(world(profile), TRAIN, stride=batch, **options) for _ in range(batch)]
    seen, _ = many.reset()
    tensors.reset()
    for number, one in enumerate(ones):
        shown, _ = one.reset(options={"first_key": number})
        assert all(np.array_equal(values[number], shown[name]) for name, values in seen.items())
    for codes in script:
        seen, reward, done, _, infos = many.step(codes)
        also, reward_also, done_also, _, infos_also = tensors.step(torch.from_numpy(codes))
        assert np.array_equal(reward, reward_also.numpy())
        assert np.array_equal(done, done_also.numpy())
        assert told(infos) == told(infos_also)
        assert all(np.allclose(values, also[name].numpy(), rtol=1e-6) for name, values in seen.items())
        for number, one in enumerate(ones):
            shown, paid, ended, _, info = one.step(codes[number])
            assert (paid, ended) == (reward[number], done[number])
            if ended:
                place = infos["episode"]["env"].tolist().index(number)
                assert {name: infos["episode"][name][place].item() for name in info} == info
                shown, _ = one.reset()
            assert all(np.array_equal(values[number], shown[name]) for name, values in seen.items())


def test_torch_actions_and_rewards_stay_tensors():
    env = VectorRoutingEnv(world(xp=TorchArrays()), TRAIN, 4)
    observation, _ = env.reset()
    _, reward, *_ = env.step(torch.tensor([[1, 3]] * 4))
    assert isinstance(reward, torch.Tensor)
    assert isinstance(observation["state"], torch.Tensor)


def test_the_state_says_what_is_spent_and_left():
    env = VectorRoutingEnv(world("calm"), TRAIN, 2, penalties=(0.5,))
    env.reset()
    env.episodes.deadline[:] = 10.0
    observation, *_ = env.step(np.array([[3, 0], [0, 0]]))
    assert dict(zip(STATE, observation["state"][0].tolist(), strict=True)) == pytest.approx(
        {
            "penalty": 0.5,
            "turn": 1,
            "turns_left": 5,
            "cost": 1.0,
            "seconds": 2.0,
            "budget_left": -1,
            "seconds_left": 8.0,
        }
    )
    assert observation["arm"][0].tolist() == [2, -1, -1, -1, -1, -1]
    assert observation["state"][1][STATE.index("cost")] == 0.0


def test_action_codes_go_there_and_back():
    code = ActionCode(arms=5, width=3, slots=4)
    action = Action(np.array([[4, -1, 0], [-1, -1, -1]]), np.array([int(Final.WEIGHTED_VOTE), 2]))
    back = code.decode(code.encode(action))
    assert np.array_equal(back.calls, action.calls)
    assert np.array_equal(back.final, action.final)
    every = np.array([[0, 0, 0, ending] for ending in range(10)])
    assert set(code.decode(every).final.tolist()) == {*range(4), *(int(final) for final in Final)}


def test_environments_without_observations_show_nothing():
    env = VectorRoutingEnv(world(), TRAIN, 3, observes=False)
    assert env.reset() == ({}, {})
    assert isinstance(env.xp, NumpyArrays)


def test_embeddings_of_questions_and_responses_are_shown(tiny_store):
    replay = Replay.load(tiny_store)
    spec = FeatureSpec(embedder="hashing", query=("embedding",), response=("embedding", "agreement"))
    simulator = Simulator(replay, Profile(), 0, 0.002)
    env = VectorRoutingEnv(simulator, replay.indices("train"), 4, spec=spec)
    observation, _ = env.reset()
    assert observation["query"].shape == (4, 384)
    assert np.allclose(np.linalg.norm(observation["query"], axis=1), 1.0, atol=1e-5)
    observation, *_ = env.step(np.array([[1, 0], [2, 0], [0, 0], [1, 0]]))
    length = np.linalg.norm(observation["response"][:, 0, :384], axis=1)
    assert np.allclose(length, [1.0, 1.0, 0.0, 1.0], atol=1e-5), "who called nothing sees nothing"
    assert not observation["response"][:, 1:].any()
