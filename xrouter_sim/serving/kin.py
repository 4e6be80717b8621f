"""A question that no store holds is routed as the known question that is nearest to it.

All that routers know of a query before they ask lies in tables over the queries of the replay that they were fitted on:
predictions, domains, folds. They are smooth functions of the text (cross-fitted for training queries), so those of the
nearest question, by cosine of embeddings, stand in. Nothing is fitted anew, every router can be served, and a question
that is in the store is routed as in the lab, to the last bit. `experiments/stand_in.py` measures what this costs.
"""

from functools import lru_cache

import numpy as np

from xrouter_sim.embeddings import get_embedder
from xrouter_sim.features import FeatureSpec
from xrouter_sim.replay import Ints, Replay
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.predictive import question_features

KEPT = 4096
"""Questions whose place is remembered, so that one that is asked again needs no embedding."""


class Kin:
    """Finds the place of a question among the queries of a replay."""

    def __init__(self, replay: Replay, router: Router) -> None:
        self.reads_text = "query text" in router.reads
        self.reads_domain = "domain" in router.reads
        self._known = {question: place for place, question in reversed(list(enumerate(replay.questions)))}
        self._by_domain: dict[str | None, Ints] = {
            str(domain): np.flatnonzero(replay.domains == domain) for domain in np.unique(replay.domains)
        } | {None: np.arange(len(replay.questions))}
        if self.reads_text or self.reads_domain:
            self._embedder = get_embedder(FeatureSpec().embedder)
            self._features = question_features(replay, FeatureSpec()).astype(np.float32)
            self._embedder.encode(["a first text, so that no request waits for the model to be loaded"])
        self.place = lru_cache(KEPT)(self._place)

    @property
    def domains(self) -> list[str]:
        """Those that a question may be said to be of."""
        return sorted(domain for domain in self._by_domain if domain is not None)

    def _place(self, question: str, domain: str | None = None) -> int:
        """The query itself where it is known; else the nearest one, of the domain where that is said."""
        if question in self._known:
            return self._known[question]
        rows = self._by_domain[domain]
        if not self.reads_text and (domain is not None or not self.reads_domain):
            return int(rows[0])
        similarity = self._features[rows] @ self._embedder.encode([question])[0]
        return int(rows[similarity.argmax()])
