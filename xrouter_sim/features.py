"""What a router may read: named feature specs, embeddings of queries and responses, and fitted text features."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from responses_db import LabError, ResponseStore
from xrouter_sim.embeddings import DIMENSIONS as EMBEDDING_DIMENSIONS
from xrouter_sim.embeddings import EMBEDDERS, Embedder, embed, get_embedder
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.vector_cache import Vectors

DIMENSIONS = 64

EMBEDDING = tuple(f"embedding_{number}" for number in range(EMBEDDING_DIMENSIONS))

QUERY_PARTS = {
    "embedding": EMBEDDING,  # of the question, of length 1
    "lexical": ("log_length", "digits", "capitals", "punctuation", "line_breaks", "code_signs"),  # in [0, 1]
}
"""Columns of each part that may be read of a query, once an episode."""

POOL_PARTS = {
    "price": ("log_cost",),  # ln of what a call is expected to cost at current prices, in cost units
    "position": ("position",),  # place in the pool's order, from 0 (first) to 1 (last)
}
"""Columns of each part that may be read of a pool, once a model on offer."""

RESPONSE_PARTS = {
    "length": ("log_length",),  # ln(1 + characters)
    "errors": ("timeout", "rate_limited", "server_error", "malformed", "truncated", "refused", "failed"),  # 0 or 1
    "agreement": ("has_answer", "agreement"),  # 0 or 1; share of the other answers at hand that equal this one
    "embedding": EMBEDDING,  # of the text, of length 1; zeros where there is none
    "logprob": ("mean_logprob", "has_logprob"),  # nats per token, 0 where the store has none; 0 or 1
}
"""Columns of each part that may be read of what came back, once a response. Never a score."""

TEXTS_SQL = """
SELECT query_id, model_id, prompt_style, text,
    row_number() OVER (PARTITION BY query_id, model_id, prompt_style ORDER BY sample_index) - 1 AS sample
FROM responses
"""
"""Samples are counted as a replay counts them: by order, whatever numbers are missing."""

OPTIONS = 10
"""Letters that an answer may be: A to J."""

OPTIONS_SQL = """
WITH cell AS (
    SELECT response_id, query_id, model_id, prompt_style,
        row_number() OVER (PARTITION BY query_id, model_id, prompt_style ORDER BY sample_index) - 1 AS sample
    FROM responses
)
SELECT query_id, model_id, prompt_style, sample, (ascii(answer) - ascii('A') + 1)::TINYINT AS option
FROM cell JOIN queries USING (query_id) JOIN latest_scores USING (response_id, grader)
WHERE regexp_full_match(answer, '[A-J]')
"""


class Dims(NamedTuple):
    """Numbers of columns: of a query, of each model on offer, of each response."""

    query: int
    pool: int
    response: int


@dataclass(frozen=True)
class FeatureSpec:
    """What a router may read, by name: parts of a query, of the pool and of responses, in the order of their columns.

    `embedder` makes the embeddings of both queries and responses. Raises LabError for a name that is not known.
    """

    embedder: str = "auto"
    query: tuple[str, ...] = ("embedding",)
    pool: tuple[str, ...] = ("price", "position")
    response: tuple[str, ...] = ("length", "errors", "agreement", "embedding", "logprob")

    def __post_init__(self) -> None:
        _check("embedder", (self.embedder,), EMBEDDERS)
        for kind, known in (("query", QUERY_PARTS), ("pool", POOL_PARTS), ("response", RESPONSE_PARTS)):
            _check(f"{kind} part", getattr(self, kind), known)

    @property
    def reads_embeddings(self) -> bool:
        return "embedding" in (*self.query, *self.response)

    @property
    def dims(self) -> Dims:
        names = self.names()
        return Dims(len(names["query"]), len(names["pool"]), len(names["response"]))

    def names(self) -> dict[str, list[str]]:
        """The columns of `query`, `pool` and `response`, as `part.column`."""
        return {
            "query": _columns(self.query, QUERY_PARTS),
            "pool": _columns(self.pool, POOL_PARTS),
            "response": _columns(self.response, RESPONSE_PARTS),
        }

    def describe(self) -> dict[str, Any]:
        """For manifests: the parts, and the embedder that was used (null where none is read)."""
        embedder = get_embedder(self.embedder).describe() if self.reads_embeddings else None
        return asdict(self) | {"embedder": embedder}


def query_features(replay: Replay, spec: FeatureSpec, cache: Path | None = None) -> Vectors:
    """[Q, spec.dims.query] float32: the query parts of `spec`, side by side. `cache`: see `query_embeddings`."""
    made: dict[str, Callable[[], npt.NDArray[Any]]] = {
        "embedding": lambda: query_embeddings(replay, get_embedder(spec.embedder), cache),
        "lexical": lambda: lexical_features(replay.questions),
    }
    parts = [made[part]() for part in spec.query]
    return np.hstack([np.empty((len(replay.questions), 0)), *parts], dtype=np.float32)


def query_embeddings(replay: Replay, embedder: Embedder, cache: Path | None = None) -> Vectors:
    """[Q, 384] float32, rows of length 1. Computed once and kept in `cache` (default: `cache/embeddings` beside the
    store; nowhere for a replay that was not loaded from a file)."""
    return embed(replay.questions, embedder, cache or cache_of(replay)).vectors


@dataclass(frozen=True)
class ResponseEmbeddings:
    """`vectors` [U, 384] of the texts that differ; `index` [Q, A, K] int32 into them, -1 where there is no text."""

    vectors: Vectors
    index: npt.NDArray[np.int32]


def response_embeddings(replay: Replay, embedder: Embedder, cache: Path | None = None) -> ResponseEmbeddings:
    """Embeddings of what the models answered, in the replay's order. Empty texts count as none. `cache` as for queries.

    Raises LabError when the store is not there, or has changed since the replay was loaded.
    """
    texts, index = response_texts(replay)
    return ResponseEmbeddings(embed(texts, embedder, cache or cache_of(replay)).vectors, index)


def response_texts(replay: Replay) -> tuple[list[str], npt.NDArray[np.int32]]:
    """The U texts that differ, sorted, and for each cell [Q, A, K] its text's number, -1 where there is none."""
    path = replay.store["path"]
    with ResponseStore(path) as store:
        if store.content_hash() != replay.store["content_hash"]:
            raise LabError(f"{path} has changed since it was loaded: load it again")
        cells = store.frame(f"SELECT * FROM ({TEXTS_SQL}) WHERE regexp_matches(text, '\\S')")
    cells = _placed(cells, replay)
    texts = cells["text"].unique().sort()
    number = cells.join(_places(texts.to_list(), "text"), on="text", how="left", maintain_order="left")["text_place"]
    index = np.full(replay.score.shape, -1, np.int32)
    index[_where(cells)] = number.to_numpy()
    return texts.to_list(), index


def answer_options(replay: Replay) -> npt.NDArray[np.int8]:
    """[Q, A, K] which option each response chose, where its answer is a letter from A (1) to J (OPTIONS); else 0.

    Within a query equal answers have equal numbers in `Replay.answer`, but A in one query is not A in the next; habits
    of models show here. 0 everywhere for a replay that was loaded from no file. Raises LabError when the store has
    changed since it was loaded.
    """
    options = np.zeros(replay.score.shape, np.int8)
    path = replay.store["path"]
    if not Path(path).is_file():
        return options
    with ResponseStore(path) as store:
        if store.content_hash() != replay.store["content_hash"]:
            raise LabError(f"{path} has changed since it was loaded: load it again")
        cells = _placed(store.frame(OPTIONS_SQL), replay)
    options[_where(cells)] = cells["option"].to_numpy()
    return options


def cache_of(replay: Replay) -> Path | None:
    """Where the embeddings of a replay's texts are kept: beside its store; nowhere if it was loaded from no file."""
    store = Path(replay.store["path"])
    return cache_beside(store) if store.is_file() else None


def cache_beside(store: Path) -> Path:
    """`cache/embeddings` in the store's folder. All its stores share it: vectors are kept by their text."""
    return store.parent / "cache" / "embeddings"


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


def _check(what: str, names: tuple[str, ...], known: Collection[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise LabError(f"feature spec: unknown {what} {unknown[0]!r}: one of {', '.join(known)}")
    if len(set(names)) < len(names):
        raise LabError(f"feature spec: a {what} stands twice in {', '.join(names)}: name each once")


def _columns(parts: tuple[str, ...], known: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [f"{part}.{column}" for part in parts for column in known[part]]


def _placed(cells: pl.DataFrame, replay: Replay) -> pl.DataFrame:
    """Those cells (query_id, model_id, prompt_style, sample) that the replay has, with their places in its arrays."""
    return (
        cells.join(_places(replay.query_ids, "query_id"), on="query_id")
        .join(_places(replay.model_ids, "model_id"), on="model_id")
        .join(_places(replay.prompt_styles, "prompt_style"), on="prompt_style")
        .with_columns(arm=pl.col("model_id_place") * len(replay.prompt_styles) + pl.col("prompt_style_place"))
    )


def _where(placed: pl.DataFrame) -> tuple[npt.NDArray[Any], ...]:
    """An index into arrays [Q, A, K]."""
    return placed["query_id_place"].to_numpy(), placed["arm"].to_numpy(), placed["sample"].to_numpy()


def _places(names: list[str], column: str) -> pl.DataFrame:
    return pl.DataFrame(
        {column: names, f"{column}_place": range(len(names))}, {column: pl.String, f"{column}_place": pl.Int64}
    )
