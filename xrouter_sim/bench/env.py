"""How fast episodes are played, as ratios to what the same machine does at the same moment.

Two references are part of the bench: Gymnasium's `SyncVectorEnv` over 64 scalar environments, and the physical floor of
the work, a compiled loop that for each step hashes one word and gathers one stored cost from the same replay.
"""

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from xrouter_sim.engine.arrays import Arrays, arrays
from xrouter_sim.engine.profile import Pools, Profile
from xrouter_sim.engine.randomness import splitmix64
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.encoding import ActionCode
from xrouter_sim.envs.gym import RoutingEnv
from xrouter_sim.envs.vector import VectorRoutingEnv
from xrouter_sim.replay import Replay

UNIT = 1e-3
COPIES = 64
GPU_BATCHES = 16
"""Batches side by side on a GPU, which the launching of its kernels keeps waiting otherwise."""

ADOPT, CONTINUE = 3, 0
"""Action codes, see `encoding.ActionCode`."""

Codes = list[np.ndarray[Any, np.dtype[np.int64]]]


def profile() -> Profile:
    """Everything at once, at ordinary rates: moving prices, pools, failures, outages, load, latency with a tail."""
    realistic = Profile.load("realistic")
    return replace(realistic, name="bench", prices=replace(realistic.prices, sigma=0.5), pools=Pools(drop=0.05))


def world(queries: int, models: int, seed: int = 0) -> Replay:
    """A replay of independent draws. Nothing is read from it but numbers."""
    rng = np.random.default_rng(seed)
    shape = (queries, models, 1)
    return Replay(
        query_ids=[],
        questions=[],
        domains=np.full(queries, "all"),
        splits=np.full(queries, "train"),
        model_ids=[f"model-{number}" for number in range(models)],
        prompt_styles=["plain"],
        samples=np.ones(shape[:2], np.int64),
        score=(rng.random(shape) < 0.6).astype(np.float64),
        cost_usd=rng.random(shape) * UNIT,
        tokens=np.zeros(shape, np.int64),
        latency_s=rng.random(shape) * 3.0,
        answer=rng.integers(0, 4, shape),
        status=np.zeros(shape, np.int64),
        evidence=np.zeros((*shape, 4)),
        store={"path": "bench", "content_hash": "", "provenance": {"simulated": queries * models}},
    )


def action_codes(batch: int, models: int, sets: int = 6, seed: int = 1) -> Codes:
    """Actions: no arm twice in an episode, half of the turns take what comes, the others go on."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, models, batch)
    made = []
    for turn in range(sets):
        arm = (first + turn * (models // 2 + 1)) % models
        made.append(np.stack([arm + 1, np.where(rng.random(batch) < 0.5, ADOPT, CONTINUE)], axis=1))
    return made


def environment(replay: Replay, batch: int, *, observes: bool, xp: Arrays | None = None) -> VectorRoutingEnv:
    simulator = Simulator(replay, profile(), 0, UNIT, xp=xp)
    env = VectorRoutingEnv(simulator, np.arange(len(replay.domains)), batch, observes=observes)
    env.reset()
    return env


def per_step(env: Any, actions: list[Any], batch: int) -> Callable[[], float]:
    """A measurement: seconds a step over one round of the actions."""

    def measure() -> float:
        began = time.perf_counter()
        for action in actions:
            env.step(action)
        return (time.perf_counter() - began) / (len(actions) * batch)

    return measure


def bare_kernel(replay: Replay, batch: int) -> Callable[[], float]:
    """The floor: one hash and one gather a step, on fresh queries and arms each round."""
    rng = np.random.default_rng(2)
    queries, models = replay.score.shape[:2]
    cells = [rng.integers(0, queries, batch) * models + rng.integers(0, models, batch) for _ in range(8)]
    words, out, costs = rng.integers(0, 2**63, batch, dtype=np.uint64), np.empty(batch), replay.cost_usd.reshape(-1)
    kernel = _compiled()

    def measure() -> float:
        began = time.perf_counter()
        for cell in cells:
            kernel(costs, cell, words, out)
        return (time.perf_counter() - began) / (len(cells) * batch)

    return measure


def _compiled() -> Callable[..., None]:
    try:
        import numba
    except ImportError:  # an ordinary installation: the floor is then NumPy's, which is somewhat higher up
        return _bare

    u64 = numba.uint64

    @numba.njit
    def bare(costs: Any, cell: Any, words: Any, out: Any) -> None:
        for i in range(len(cell)):
            z = words[i] + u64(cell[i])
            z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
            z = z ^ (z >> u64(31))
            out[i] = costs[cell[i]] * (z >> u64(40))

    compiled: Callable[..., None] = bare
    return compiled


def _bare(costs: Any, cell: Any, words: Any, out: Any) -> None:
    np.multiply(costs.take(cell), splitmix64(words + cell.view(np.uint64)) >> np.uint64(40), out=out)


def scalar_reference(replay: Replay) -> Callable[[], float]:
    """Seconds a step of 64 scalar environments under Gymnasium's own vectorisation."""
    simulator = Simulator(replay, profile(), 0, UNIT)
    queries = np.arange(len(replay.domains))
    envs = SyncVectorEnv(
        [lambda: RoutingEnv(simulator, queries) for _ in range(COPIES)], autoreset_mode=AutoresetMode.SAME_STEP
    )
    envs.reset(seed=0)
    return per_step(envs, action_codes(COPIES, len(replay.model_ids)), COPIES)


def ratio(slow: Callable[[], float], fast: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, measured in turn, and how often the second goes into the first."""
    slow(), fast()
    times = np.array([(slow(), fast()) for _ in range(rounds)])
    medians = np.median(times, axis=0)
    return float(medians[0]), float(medians[1]), float(medians[0] / medians[1])


def policy_in_the_loop(replay: Replay, batch: int, rounds: int) -> dict[str, float]:
    """A 256-256 network over the pool, playing: seconds of a rollout over those of its forward passes alone."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    env = environment(replay, batch, observes=True, xp=arrays("torch"))
    observation, _ = env.reset()
    wide = observation["pool"].shape[2] + observation["state"].shape[1]
    policy = torch.nn.Sequential(
        torch.nn.Linear(wide, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1)
    )

    def inputs(seen: dict[str, Any]) -> Any:
        state = seen["state"][:, None].expand(-1, seen["pool"].shape[1], -1)
        return torch.cat([seen["pool"], state], dim=2)

    def play(forward_only: bool) -> float:
        nonlocal observation
        turns, kept = 4, inputs(observation)
        ending = torch.full((batch, 1), ADOPT)
        began = time.perf_counter()
        with torch.inference_mode():
            for _ in range(turns):
                scores = policy(kept if forward_only else inputs(observation))[..., 0]
                if not forward_only:
                    scores = scores.masked_fill(observation["on_offer"] == 0, -1e9)
                    action = torch.cat([scores.argmax(dim=1, keepdim=True) + 1, ending], dim=1)
                    observation, *_ = env.step(action)
        return (time.perf_counter() - began) / turns

    try:
        rollout, forward, over = ratio(lambda: play(False), lambda: play(True), rounds)
    finally:
        torch.set_num_threads(threads)
    return {"rollout_vs_forward": over, "rollout_s": rollout, "forward_s": forward}


def memory_ratio(queries: int, models: int) -> float:
    """Bytes of replay and simulator over those of the replay's arrays."""
    tracemalloc.start()
    replay = world(queries, models)
    alone = tracemalloc.get_traced_memory()[0]
    simulator = Simulator(replay, profile(), 0, UNIT)
    both = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert simulator.replay is replay
    return both / alone


def on_gpu(replay: Replay, batch: int, rounds: int) -> dict[str, Any]:
    """Transitions a second on CUDA, where there is one. Nothing in a turn waits for the host."""
    import torch

    if not torch.cuda.is_available():
        return {"gpu": "no GPU"}
    xp = arrays("torch:cuda")
    simulator = Simulator(replay, profile(), 0, UNIT, xp=xp)
    key = xp.arange(batch)
    code = ActionCode(len(replay.model_ids), 1, simulator.profile.client.max_calls)
    actions = [code.decode(xp.put_in(codes)) for codes in action_codes(batch, len(replay.model_ids))]
    query, penalty = key % len(replay.domains), xp.full(batch, 1.0)

    def rollout() -> None:
        episodes = simulator.reset(query, key, penalty)
        torch.cuda.set_sync_debug_mode("error")  # a hidden wait for the host would raise
        for action in actions:
            simulator.step(episodes, action)
        torch.cuda.set_sync_debug_mode("default")

    rollout()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(rounds):
        rollout()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    return {"gpu": torch.cuda.get_device_name(), "gpu_steps_per_s": rounds * len(actions) * batch / seconds}


def run(batch: int = 65_536, rounds: int = 9, large: bool = True) -> dict[str, Any]:
    """All figures; each ratio is of medians measured in turn."""
    replay = world(20_000, 16)
    figures: dict[str, Any] = {}
    scalar = scalar_reference(replay)
    engine = {n: per_step(environment(replay, n, observes=False), action_codes(n, 16), n) for n in (batch, 4096)}
    shown = per_step(environment(replay, batch, observes=True), action_codes(batch, 16), batch)
    slow, fast, figures["vs_sync_vector_env"] = ratio(scalar, engine[batch], rounds)
    figures |= {"sync_steps_per_s": 1 / slow, "steps_per_s": 1 / fast}
    _, _, figures["vs_sync_vector_env_4096"] = ratio(scalar, engine[4096], rounds)
    _, fast, figures["vs_sync_vector_env_observed"] = ratio(scalar, shown, rounds)
    figures["observed_steps_per_s"] = 1 / fast
    own, bare, inverse = ratio(engine[batch], bare_kernel(replay, batch), rounds)
    figures |= {"vs_bare_kernel": 1 / inverse, "bare_steps_per_s": 1 / bare}
    figures |= policy_in_the_loop(replay, 4096, max(rounds // 3, 1))
    figures["models_64_vs_4"] = _scaling([world(20_000, 4), world(20_000, 64)], [batch, batch], rounds)
    figures["episodes_65536_vs_16384"] = _scaling([replay, replay], [batch // 4, batch], rounds)
    figures["memory_ratio"] = memory_ratio(20_000, 16)
    figures |= on_gpu(replay, GPU_BATCHES * batch, rounds)
    if large:
        replay = world(1_000_000, 32)
        step = per_step(environment(replay, batch, observes=False), action_codes(batch, 32), batch)
        own, bare, inverse = ratio(step, bare_kernel(replay, batch), rounds)
        figures |= {
            "vs_bare_kernel_large": 1 / inverse,
            "large_steps_per_s": 1 / own,
            "large_bare_steps_per_s": 1 / bare,
        }
    return figures


def _scaling(replays: list[Replay], batches: list[int], rounds: int) -> float:
    """Seconds a step in the second world over those in the first."""
    first, second = (
        per_step(environment(replay, batch, observes=False), action_codes(batch, len(replay.model_ids)), batch)
        for replay, batch in zip(replays, batches, strict=True)
    )
    return ratio(second, first, rounds)[2]
