"""Damaged files for every importer: a few on every run, 10,000 with `make fuzz` (see fuzz_importers.py)."""

from pathlib import Path

import pytest

from responses_db import LabError
from responses_db.importers import IMPORTERS, Choices, import_files
from tests.responses_db.fuzz_importers import Bench, Failure, Input, damaged_input, fuzz, sound_file

INPUTS = 45


def test_damaged_files_end_in_one_line_or_in_a_whole_import(tmp_path: Path) -> None:
    outcomes = fuzz(INPUTS, tmp_path, seed=20260)
    assert outcomes["refused"] + outcomes["imported"] == INPUTS
    assert min(outcomes["refused"], outcomes["imported"]) > INPUTS / 10
    assert all(outcomes[form] for form in IMPORTERS)


def test_an_input_is_the_same_whatever_ran_before(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        last = damaged_input(7, 123, tmp_path / name)
        damaged_input(7, 124, tmp_path / name)
    first = tmp_path / "a" / last.path.name
    assert first.read_bytes() == last.path.read_bytes()


class TestTheFuzzItself:
    """It must be able to fail."""

    @pytest.fixture
    def given(self, tmp_path: Path) -> Input:
        (tmp_path / "input").mkdir()
        name, content = sound_file("routerbench")
        (tmp_path / "input" / name).write_bytes(content)
        return Input("routerbench", "none", tmp_path / "input" / name, Choices())

    def test_sees_a_traceback(self, given: Input, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench(tmp_path)
        monkeypatch.setattr("responses_db.importers.run.gather", lambda *_, **__: 1 / 0)
        with pytest.raises(Failure, match="ZeroDivisionError"):
            bench.try_input(1, given)

    def test_sees_a_partial_import(self, given: Input, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench(tmp_path)

        def half(*arguments: object, **_: object) -> None:
            import_files("routerbench", [given.path], bench.db)
            raise LabError("something went wrong in the middle")

        monkeypatch.setattr("tests.responses_db.fuzz_importers.import_files", half)
        with pytest.raises(Failure, match="the store has changed"):
            bench.try_input(1, given)

    def test_sees_a_page_instead_of_a_line(self, given: Input, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bench = Bench(tmp_path)

        def refuse(*_: object, **__: object) -> None:
            raise LabError("two\nlines")

        monkeypatch.setattr("tests.responses_db.fuzz_importers.import_files", refuse)
        with pytest.raises(Failure, match="tells a reader nothing"):
            bench.try_input(1, given)
