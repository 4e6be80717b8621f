"""A pandas DataFrame out of a pickle, without pandas and without running anything that the pickle names.

Unpickling calls whatever functions a file asks for, which is why nobody should do it. Here every name in the file is
looked up in a short table of stand-ins that only keep what they are given; a name that is not in the table ends the
reading. The columns are then put together from what was kept. NumPy's own classes are stand-ins too: they believe the
state they are given, and a damaged file brings the process down with them.
"""

import io
import math
import pickle
import pickletools
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from responses_db.errors import LabError
from responses_db.importers.base import plain
from responses_db.importers.sources import Source, first_line


class Kept:
    """Stands for a class or function: keeps the arguments and the state it is given, and does nothing."""

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


class NewIndex(Kept): ...  # (class of the index, its facts)


class Array(Kept): ...  # its state: version, shape, type, order, content


class Buffer(Kept): ...  # (content, type, shape, order)


class Scalar(Kept): ...  # (type, content)


class Type(Kept): ...


class Encoded(Kept): ...  # (text, encoding): how old pickles carry bytes


def _names_of_numpy() -> dict[tuple[str, str], Any]:
    names: dict[tuple[str, str], Any] = {("numpy", "ndarray"): Array, ("numpy", "dtype"): Type}
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = Array
        names[f"{core}.multiarray", "scalar"] = Scalar
        names[f"{core}.numeric", "_frombuffer"] = Buffer
    return names


KNOWN: dict[tuple[str, str], Any] = _names_of_numpy() | {
    ("pandas.core.frame", "DataFrame"): Frame,
    ("pandas", "DataFrame"): Frame,
    ("pandas.core.internals.managers", "BlockManager"): Manager,
    ("pandas.core.internals", "BlockManager"): Manager,
    ("pandas._libs.internals", "_unpickle_block"): Block,
    ("pandas.core.internals.blocks", "new_block"): Block,
    ("pandas.core.indexes.base", "_new_Index"): NewIndex,
    ("pandas.core.indexes.base", "Index"): Index,
    ("pandas.core.indexes.numeric", "Int64Index"): Index,
    ("pandas.core.indexes.range", "RangeIndex"): RangeIndex,
    ("pandas", "Index"): Index,
    ("pandas", "RangeIndex"): RangeIndex,
    ("builtins", "slice"): slice,
    ("_codecs", "encode"): Encoded,
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
    """The columns of the pickled DataFrame, numbers as numbers and all else as text.

    Raises LabError for anything else, naming what the file asked for.
    """
    content = source.load()
    try:
        _check_memo(content)
        frame = _Reader(io.BytesIO(content)).load()
        if not isinstance(frame, Frame):
            raise ValueError(f"it holds {type(frame).__name__}, no DataFrame")
        return pl.DataFrame([_series(name, values) for name, values in _columns(frame).items()])
    except Exception as error:  # damaged pickles raise anything
        raise LabError(f"{source.name}: no pickled DataFrame that can be read safely: {first_line(error)}") from error


def _check_memo(content: bytes) -> None:
    """A few damaged bytes may ask for a memo of gigabytes, which the reader would make before it looks at the rest."""
    for opcode, argument, place in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > int(place or 0):
            raise ValueError(f"damaged at byte {place}")


def _columns(frame: Frame) -> dict[str, list[Any]]:
    manager = frame.state["_mgr"] if isinstance(frame.state, dict) and "_mgr" in frame.state else frame.state
    blocks, axes = _parts(manager)
    names = [str(name) for name in _labels(axes[0])]
    columns: dict[str, list[Any]] = {}
    for values, places in blocks:
        chosen = np.arange(len(names))[_decoded(places) if isinstance(places, Kept) else places]
        for place, row in zip(chosen.tolist(), np.atleast_2d(_decoded(values)), strict=True):
            columns[names[place]] = row.tolist()
    if missing := set(names) - set(columns):
        raise ValueError(f"no values for the column {min(missing)}")
    return {name: columns[name] for name in names}


def _parts(manager: Any) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """(blocks of values with their places, axes) of a block manager, as pandas pickles it since version 0.14."""
    if not isinstance(manager, Manager):
        raise ValueError(f"a DataFrame of an unknown version ({type(manager).__name__})")
    if manager.arguments:
        blocks, axes = manager.arguments
        return [(block.arguments[0], block.arguments[1]) for block in blocks], list(axes)
    held = next(part for part in manager.state if isinstance(part, dict) and "0.14.1" in part)["0.14.1"]
    return [(block["values"], block["mgr_locs"]) for block in held["blocks"]], list(held["axes"])


def _labels(index: Any) -> list[Any]:
    """What the columns are called."""
    kind, facts = index.arguments
    if kind is RangeIndex:
        return list(range(int(facts["start"]), int(facts["stop"]), int(facts["step"])))[:10_000]
    return list(_decoded(facts["data"]))


def _decoded(array: Any) -> npt.NDArray[Any]:
    """The array that was kept, of numbers or of objects."""
    if isinstance(array, Buffer):
        content, kind, shape, order = array.arguments
    else:
        _, shape, kind, fortran, content = array.state
        order = "F" if fortran else "C"
    if kind.arguments[0][:1] == "O":
        values = np.empty(len(content), dtype=object)
        for place, value in enumerate(content):
            values[place] = value
    else:
        values = np.frombuffer(_bytes(content), _number_type(kind))
    if math.prod(shape) != len(values):
        raise ValueError(f"{len(values)} values for the shape {shape}")
    return values.reshape(shape, order=order)


def _number_type(kind: Type) -> np.dtype[Any]:
    code = str(kind.arguments[0])
    if not re.fullmatch(r"[fiu][1248]|b1", code):
        raise ValueError(f"an array of the type {code}")
    return np.dtype(code).newbyteorder(">" if kind.state and kind.state[1] == ">" else "<")


def _bytes(content: Any) -> bytes:
    if isinstance(content, Encoded):
        return str(content.arguments[0]).encode("latin-1")
    if not isinstance(content, bytes | bytearray):
        raise TypeError(f"{type(content).__name__} where bytes belong")
    return bytes(content)


def _series(name: str, values: list[Any]) -> pl.Series:
    values = [_cell(value) for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds <= {int, float, bool}:
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    texts = [repr(value) if isinstance(value, list) else plain(value) for value in values]
    return pl.Series(name, texts, dtype=pl.String)


def _cell(value: Any) -> Any:
    if isinstance(value, Scalar):
        kind, content = value.arguments
        return np.frombuffer(_bytes(content), _number_type(kind))[0].item()
    if isinstance(value, Array | Buffer):
        return _decoded(value).tolist()
    return list(value) if isinstance(value, tuple) else value
