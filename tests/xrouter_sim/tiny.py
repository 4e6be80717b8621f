"""A small replay made by hand-sized random draws: two domains, letters for answers, costs that differ tenfold."""

from functools import cache

import numpy as np

from xrouter_sim.embeddings import HashingEmbedder
from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Floats, Replay
from xrouter_sim.routers.predictive import QUESTION_FEATURES

CHANCE = {"easy": (0.7, 0.8, 0.95), "hard": (0.2, 0.45, 0.85)}  # of models a, b, c
COST = (0.0001, 0.0004, 0.002)


def tiny_replay(queries: int = 120, samples: int = 2, seed: int = 0) -> Replay:
    """Three models, one prompt style. Wrong answers are one of three letters, so agreement is evidence.

    Its questions are embedded by hashing: a machine with MiniLM would take seconds to read them.
    """
    rng = np.random.default_rng(seed)
    domains = np.where(np.arange(queries) % 2 == 0, "easy", "hard")
    chance = np.array([CHANCE[domain] for domain in domains])
    shape = (queries, 3, samples)
    right = rng.random(shape) < chance[:, :, None]
    answer = np.where(right, 0, rng.integers(1, 4, shape))
    evidence = np.stack([np.full(shape, 3.0), -0.2 - 0.2 * ~right, ~right * 1.0, np.ones(shape)], axis=-1)
    return Replay(
        query_ids=[f"tiny/{i:03}" for i in range(queries)],
        questions=_questions(queries),
        domains=domains,
        splits=np.where(np.arange(queries) % 3 == 0, "test", "train"),
        model_ids=["a", "b", "c"],
        prompt_styles=["plain"],
        samples=np.full(shape[:2], samples),
        score=right.astype(np.float64),
        cost_usd=np.broadcast_to(np.array(COST)[:, None], shape).copy(),
        tokens=np.full(shape, 100),
        latency_s=np.full(shape, 2.0),
        answer=answer,
        status=np.zeros(shape, np.int64),
        evidence=evidence,
        store={"path": "tiny", "content_hash": "0", "provenance": {"simulated": right.size}, "left_out": 0},
        memo={(QUESTION_FEATURES, FeatureSpec()): _embeddings(queries)},
    )


def _questions(queries: int) -> list[str]:
    return [f"an {('easy', 'hard')[i % 2]} question about number {i}" for i in range(queries)]


@cache
def _embeddings(queries: int) -> Floats:
    return HashingEmbedder().encode(_questions(queries)).astype(np.float64)
