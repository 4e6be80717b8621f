"""Reading a config table strictly: every mistake is one line that says what, where and how to mend it."""

import difflib
import tomllib
from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from responses_db.errors import LabError


def read_toml(path: Path) -> "Table":
    """The whole file as a table. LabError when it is missing or is not TOML."""
    try:
        return Table(tomllib.loads(path.read_text("utf-8")), str(path))
    except FileNotFoundError:
        raise LabError(f"{path}: no such config; experiments/harvest/demo.toml is one to start from") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path}: not a TOML file: {error}") from None


class Table:
    """One TOML table. Take every key that is known, then call `finish`, which refuses the others."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where, self._known = values, where, set[str]()

    def fail(self, what: str) -> LabError:
        """The error to raise, with this table's place in front."""
        return LabError(f"{self.where}: {what}")

    def _take(self, key: str, kinds: tuple[type, ...], noun: str, default: Any) -> Any:
        self._known.add(key)
        value = self.values.get(key, default)
        if value is ...:
            raise self.fail(f"`{key}` is missing: add {key} = {noun}")
        wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        if key in self.values and wrong:
            raise self.fail(f"`{key}` is {value!r}, but it takes {noun}")
        return value

    def text(self, key: str, default: Any = ..., *, among: Collection[str] | None = None) -> Any:
        """A string; with `among`, one of those."""
        value = self._take(key, (str,), "a text in quotes", default)
        if among is not None and value not in among:
            raise self.fail(f"{key} {value!r} is not known{_nearest(value, among)}; there are {', '.join(among)}")
        return value

    def integer(self, key: str, default: Any = ..., *, least: int = 0, most: int = 2**63 - 1) -> Any:
        value = self._take(key, (int,), "a whole number", default)
        if key in self.values and not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most}"
            raise self.fail(f"`{key}` is {value}, but must be {bound}")
        return value

    def number(self, key: str, default: Any = ..., *, least: float = 0.0) -> Any:
        value = self._take(key, (int, float), "a number", default)
        if key in self.values and not least <= value < float("inf"):
            raise self.fail(f"`{key}` is {value}, but must be a number of at least {least:g}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._take(key, (bool,), "true or false", default))

    def day(self, key: str) -> date:
        """A date, written without quotes."""
        day = self._take(key, (date,), "a date such as 2026-01-31, without quotes", ...)
        assert isinstance(day, date)
        return day

    def mapping(self, key: str, default: Any = ...) -> Any:
        return self._take(key, (dict,), "a table", default)

    def texts(self, key: str, default: Any = ...) -> Any:
        """A list of strings."""
        values = self._take(key, (list,), "a list of texts", default)
        if key in self.values and not all(isinstance(value, str) for value in values):
            raise self.fail(f"`{key}` must be a list of texts in quotes")
        return values

    def table(self, key: str) -> "Table":
        return Table(self.mapping(key), f"{self.where}, [{key}]")

    def tables(self, key: str, default: Any = ...) -> list["Table"]:
        """A list of tables, [[key]] in TOML; at least one where there is no default."""
        values = self._take(key, (list,), f"one or more [[{key}]] tables", default)
        if not all(isinstance(value, dict) for value in values) or (default is ... and not values):
            raise self.fail(f"`{key}` must be one or more [[{key}]] tables")
        return [Table(value, f"{self.where}, [[{key}]] {number}") for number, value in enumerate(values, 1)]

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self.values:
            if key not in self._known:
                known = ", ".join(sorted(self._known))
                raise self.fail(f"unknown key `{key}`{_nearest(key, self._known)}; known here: {known}")


def _nearest(word: str, among: Collection[str]) -> str:
    near = difflib.get_close_matches(word, list(among), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
