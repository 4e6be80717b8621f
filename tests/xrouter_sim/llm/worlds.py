"""What the tests of the LLM router share: a tiny world in the brief wording, and a tokenizer for it."""

import numpy as np

from tests.xrouter_sim.faces import CodeTexts
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.brief import BriefRoutingEnv
from xrouter_sim.replay import Replay

REPLAY = tiny_replay(queries=40, samples=2)
TRAIN = REPLAY.indices("train")
UNIT = 0.002


def simulator(profile: str = "calm", replay: Replay = REPLAY) -> Simulator:
    return Simulator(replay, Profile.load(profile), 3, UNIT)


def brief(profile: str = "calm", replay: Replay = REPLAY, **options) -> BriefRoutingEnv:
    options = {"texts": CodeTexts(replay), "penalties": (0.5,)} | options
    return BriefRoutingEnv(simulator(profile, replay), TRAIN, **options)


def row(query: int = 0, key: int = 0, penalty: float = 0.5) -> dict:
    prompt = [{"role": "system", "content": "Route."}, {"role": "user", "content": REPLAY.questions[query]}]
    return {"prompt": prompt, "query_id": REPLAY.query_ids[query], "key": key, "penalty": penalty}


def seen(env: BriefRoutingEnv) -> np.ndarray:
    return env.simulator.observe(env.episodes).arm[0]
