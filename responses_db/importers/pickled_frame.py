"""A pandas DataFrame out of a pickle, without pandas and without running anything that the pickle names.

Unpickling calls whatever functions a file asks for, which is why nobody should do it. Here every name in the file is
looked up in a short table: arrays of NumPy, and stand-ins of ours that only keep what they are given. A name that is
not in the table ends the reading. (A file could still be large; it cannot act.)
"""

import io
import pickle
from typing import Any

import numpy as np
import polars as pl

from responses_db.errors import LabError
from responses_db.importers.sources import Source, first_line


class Kept:
    """Stands for a class of pandas: keeps the arguments and the state it is given, and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Frame(Kept): ...


class Manager(Kept): ...


class Block(Kept): ...


class Index(Kept): ...


class RangeIndex(Kept): ...


def _new_index(kind: type[Kept], facts: dict[str, Any]) -> Kept:
    index = kind() if isinstance(kind, type) and issubclass(kind, Kept) else Index()
    index.state = facts
    return index


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin-1")  # how old pickles carry bytes; no other encoding is asked for


def _array_parts() -> dict[tuple[str, str], Any]:
    reconstruct, frombuffer = np.ndarray.__reduce__(np.empty(0))[0], np.empty(0).__reduce_ex__(5)[0]
    scalar = np.float64(0).__reduce__()[0]
    parts: dict[tuple[str, str], Any] = {}
    for core in ("numpy.core", "numpy._core"):
        parts[f"{core}.multiarray", "_reconstruct"] = reconstruct
        parts[f"{core}.multiarray", "scalar"] = scalar
        parts[f"{core}.numeric", "_frombuffer"] = frombuffer
    return parts | {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}


KNOWN: dict[tuple[str, str], Any] = _array_parts() | {
    ("pandas.core.frame", "DataFrame"): Frame,
    ("pandas", "DataFrame"): Frame,
    ("pandas.core.internals.managers", "BlockManager"): Manager,
    ("pandas.core.internals", "BlockManager"): Manager,
    ("pandas._libs.internals", "_unpickle_block"): Block,
    ("pandas.core.internals.blocks", "new_block"): Block,
    ("pandas.core.indexes.base", "_new_Index"): _new_index,
    ("pandas.core.indexes.base", "Index"): Index,
    ("pandas.core.indexes.numeric", "Int64Index"): Index,
    ("pandas.core.indexes.range", "RangeIndex"): RangeIndex,
    ("pandas", "Index"): Index,
    ("pandas", "RangeIndex"): RangeIndex,
    ("builtins", "slice"): slice,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no table of data needs") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object from elsewhere")


def read_pickled_frame(source: Source) -> pl.DataFrame:
    """The columns of the pickled DataFrame. Raises LabError for anything else, naming what the file asked for."""
    try:
        frame = _Reader(io.BytesIO(source.load())).load()
        if not isinstance(frame, Frame):
            raise ValueError(f"it holds {type(frame).__name__}, no DataFrame")
        return pl.DataFrame(_columns(frame), strict=False)
    except LabError:
        raise
    except Exception as error:  # damaged pickles raise anything
        raise LabError(f"{source.name}: no pickled DataFrame that can be read safely: {first_line(error)}") from error


def _columns(frame: Frame) -> dict[str, list[Any]]:
    manager = frame.state["_mgr"] if isinstance(frame.state, dict) and "_mgr" in frame.state else frame.state
    blocks, axes = _parts(manager)
    names = [str(name) for name in _values(axes[0])]
    columns: dict[str, list[Any]] = {}
    for values, places in blocks:
        for place, row in zip(np.arange(len(names))[places], np.atleast_2d(values), strict=True):
            columns[names[place]] = row.tolist()
    if missing := set(names) - set(columns):
        raise ValueError(f"no values for the column {min(missing)}")
    return {name: columns[name] for name in names}


def _parts(manager: Any) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """(blocks of values with their places, axes) of a block manager, as pandas 1 and 2 pickle it."""
    if not isinstance(manager, Manager):
        raise ValueError(f"a DataFrame of an unknown version ({type(manager).__name__})")
    if manager.arguments:
        blocks, axes = manager.arguments
        return [(block.arguments[0], block.arguments[1]) for block in blocks], list(axes)
    held = next(part for part in manager.state if isinstance(part, dict) and "0.14.1" in part)["0.14.1"]
    return [(block["values"], block["mgr_locs"]) for block in held["blocks"]], list(held["axes"])


def _values(index: Any) -> list[Any]:
    if isinstance(index, Index):
        return list(index.state["data"])
    if isinstance(index, RangeIndex):
        return list(range(index.state["start"], index.state["stop"], index.state["step"]))
    return list(index)
