"""Features of a query's text, fitted on training queries and computed offline without any model."""

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from xrouter_sim.replay import Floats, Ints, Replay

DIMENSIONS = 64


def lexical_features(texts: list[str]) -> Floats:
    """[n, 6] log length; shares of digits, capitals, punctuation, line breaks and code-like signs; all in [0, 1]."""
    rows = []
    for text in texts:
        n = max(len(text), 1)
        counts = (
            sum(c.isdigit() for c in text),
            sum(c.isupper() for c in text),
            sum(c in ".,;:?!'\"" for c in text),
            text.count("\n"),
            sum(c in "{}[]()=_<>+*/\\|" for c in text),
        )
        rows.append([min(np.log1p(n) / 10.0, 1.0), *(count / n for count in counts)])
    return np.array(rows)


def text_features(replay: Replay, queries: Ints, dimensions: int = DIMENSIONS) -> Floats:
    """[Q, ≤ dimensions + 6] latent semantic analysis of the questions (TF-IDF, truncated SVD) beside lexical features.

    Vocabulary and directions come from `queries` ([n] training indices) alone. Computed once for all routers.
    """
    key = ("text features", queries.tobytes(), dimensions)
    if key not in replay.memo:
        replay.memo[key] = _fit_text_features(replay, queries, dimensions)
    return replay.memo[key]


def _fit_text_features(replay: Replay, queries: Ints, dimensions: int) -> Floats:
    fitted_on = [replay.questions[q] for q in queries]
    lexical = lexical_features(replay.questions)
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=20_000, ngram_range=(1, 2), dtype=np.float64)
    try:
        vectors = words.fit_transform(fitted_on)
    except ValueError:  # no word stands in two questions
        return lexical
    n_components = min(dimensions, vectors.shape[1] - 1, len(fitted_on) - 1)
    if n_components < 1:
        return lexical
    svd = make_pipeline(TruncatedSVD(n_components, random_state=0), Normalizer())
    svd.fit(vectors)
    return np.hstack([svd.transform(words.transform(replay.questions)), lexical])
