"""The few array operations that NumPy and torch spell differently, so that the engine is written once.

The engine computes with 64-bit integers, float64 sums and products, comparisons and table look-ups only. Those give
equal bits on every backend and device; a logarithm or a sine would not, so whatever needs one is a table made once in
NumPy (see `world`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from xrouter_sim.engine.randomness import GOLDEN, mix

Array = Any
"""An array of the backend in use: numpy.ndarray or torch.Tensor."""

KEPT_BLOCK = 16 << 20
"""Bytes; glibc learns from blocks of up to 32 MiB."""


class Arrays(ABC):
    """What the engine asks of a backend. Indices and integers are int64, amounts float64."""

    name: str
    chunk: int
    """Episodes carried through a turn together: many, since each operation has a fixed price, and few enough that
    intermediate results do not pile up."""
    compacts: ClassVar[bool]
    """Whether rare cases are worked on apart. On a GPU finding them would stall the host, so all rows are carried."""

    @abstractmethod
    def put_in(self, values: np.ndarray[Any, Any]) -> Array:
        """A NumPy array on this backend, without a copy where memory can be shared."""

    @abstractmethod
    def full(self, shape: int | tuple[int, ...], value: float | int | bool) -> Array:
        """bool, int64 or float64 by the kind of `value`."""

    @abstractmethod
    def arange(self, stop: int) -> Array: ...

    @abstractmethod
    def where(self, condition: Array, yes: Array, no: Array) -> Array: ...

    @abstractmethod
    def take(self, table: Array, index: Array) -> Array:
        """Rows of a table (of any rank) by index, which must lie in it: no counting from the end."""

    @abstractmethod
    def nonzero(self, mask: Array) -> Array:
        """Indices of the true elements of a [n] mask."""

    @abstractmethod
    def minimum(self, a: Array, b: Array) -> Array: ...

    @abstractmethod
    def maximum(self, a: Array, b: Array) -> Array: ...

    @abstractmethod
    def stream(self, state: Array) -> Array:
        """splitmix64's output for each state (see `randomness.mix`): 64 bits, as int64."""

    @abstractmethod
    def to_float(self, values: Array) -> Array: ...

    @abstractmethod
    def to_int(self, values: Array) -> Array: ...

    @abstractmethod
    def to_byte(self, values: Array) -> Array:
        """int8"""

    @abstractmethod
    def log(self, values: Array) -> Array:
        """Natural logarithm: for features only, since its last bits differ between backends."""

    @abstractmethod
    def stack(self, parts: Sequence[Array]) -> Array:
        """Side by side along a new last axis, as float32: for features."""

    @abstractmethod
    def argmax(self, values: Array) -> Array:
        """The first greatest element along the last axis."""

    def narrow(self, mask: Array) -> tuple[Array, Array | None]:
        """Where a mask [n] is true, as (rows, mask): rows picks what to work on, and mask says which of those count
        (None: all). A backend that compacts gives the true rows alone, another one all rows and the mask."""
        if not self.compacts:
            return slice(None), mask
        return (slice(None), None) if bool(mask.all()) else (self.nonzero(mask), None)

    def put(self, target: Array, rows: Array, mask: Array | None, values: Array) -> None:
        """Write values into the narrowed rows of a target [n], where they count."""
        target[rows] = values if mask is None else self.where(mask, values, target[rows])

    def is_idle(self, mask: Array) -> bool:
        """Whether nothing is true, where that can be known without stalling."""
        return self.compacts and not bool(mask.any())

    def is_full(self, mask: Array) -> bool:
        """Whether all is true, where that can be known without stalling."""
        return self.compacts and bool(mask.all())


class NumpyArrays(Arrays):
    """NumPy, one core."""

    name = "numpy"
    chunk = 65_536
    compacts = True

    def __init__(self) -> None:
        # glibc hands a freed block of some 100 kB back to the kernel, and every page of the next one faults. Once it
        # has seen a large block come and go it keeps those up to that size: a turn of 65,536 takes a quarter less.
        np.empty(KEPT_BLOCK, np.int8)

    def put_in(self, values: np.ndarray[Any, Any]) -> Array:
        return values

    def full(self, shape: int | tuple[int, ...], value: float | int | bool) -> Array:
        return np.full(shape, value)

    def arange(self, stop: int) -> Array:
        return np.arange(stop)

    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        return np.where(condition, yes, no)

    def take(self, table: Array, index: Array) -> Array:
        return table.take(index, axis=0, mode="clip")  # indices are right by construction; clip is the quick way

    def nonzero(self, mask: Array) -> Array:
        return np.flatnonzero(mask)

    def minimum(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)

    def maximum(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)

    def stream(self, state: Array) -> Array:
        return mix(state.view(np.uint64)).view(np.int64)

    def to_float(self, values: Array) -> Array:
        return values.astype(np.float64)

    def to_int(self, values: Array) -> Array:
        return values.astype(np.int64)

    def to_byte(self, values: Array) -> Array:
        return values.astype(np.int8)

    def log(self, values: Array) -> Array:
        return np.log(values)

    def stack(self, parts: Sequence[Array]) -> Array:
        return np.stack(parts, axis=-1, dtype=np.float32, casting="unsafe")

    def argmax(self, values: Array) -> Array:
        return values.argmax(axis=-1)


class TorchArrays(Arrays):
    """torch on one device. On the CPU tensors share the memory of NumPy arrays; on a GPU nothing waits for the host."""

    def __init__(self, device: str = "cpu") -> None:
        import torch

        self.torch, self.device = torch, torch.device(device)
        self.name = f"torch:{self.device}"
        self.on_cpu = self.device.type == "cpu"
        self.chunk = NumpyArrays.chunk if self.on_cpu else 1 << 62
        self.compacts = self.on_cpu  # type: ignore[misc]

    def put_in(self, values: np.ndarray[Any, Any]) -> Array:
        return self.torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def full(self, shape: int | tuple[int, ...], value: float | int | bool) -> Array:
        kind = {bool: self.torch.bool, int: self.torch.int64, float: self.torch.float64}[type(value)]
        shape = (shape,) if isinstance(shape, int) else shape
        return self.torch.full(shape, value, dtype=kind, device=self.device)

    def arange(self, stop: int) -> Array:
        return self.torch.arange(stop, device=self.device)

    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        return self.torch.where(condition, yes, no)

    def take(self, table: Array, index: Array) -> Array:
        return table[index]

    def nonzero(self, mask: Array) -> Array:
        return self.torch.nonzero(mask)[:, 0]

    def minimum(self, a: Array, b: Array) -> Array:
        return self.torch.minimum(a, self._tensor(b, a))

    def maximum(self, a: Array, b: Array) -> Array:
        return self.torch.maximum(a, self._tensor(b, a))

    def _tensor(self, value: Array, like: Array) -> Array:
        return value if self.torch.is_tensor(value) else self.torch.full_like(like, value)

    def stream(self, state: Array) -> Array:
        # torch has no logical shift for 64 bits: shift, then clear the bits that the sign filled in.
        z = (state ^ ((state >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
        z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
        return z ^ ((z >> 31) & 0x1FFFFFFFF)

    def to_float(self, values: Array) -> Array:
        return values.to(self.torch.float64)

    def to_int(self, values: Array) -> Array:
        return values.to(self.torch.int64)

    def to_byte(self, values: Array) -> Array:
        return values.to(self.torch.int8)

    def log(self, values: Array) -> Array:
        return self.torch.log(values)

    def stack(self, parts: Sequence[Array]) -> Array:
        return self.torch.stack([part.to(self.torch.float32) for part in parts], dim=-1)

    def argmax(self, values: Array) -> Array:
        # torch does not promise the first of equals; the least index among the greatest is.
        greatest = values == values.amax(dim=-1, keepdim=True)
        place = self.torch.arange(values.shape[-1], device=self.device)
        return self.torch.where(greatest, place, values.shape[-1]).amin(dim=-1)


def arrays(backend: str) -> Arrays:
    """`numpy`, `torch` (CPU) or `torch:cuda`. Raises LabError on another name or a missing GPU."""
    from responses_db import LabError

    if backend == "numpy":
        return NumpyArrays()
    if backend.split(":")[0] != "torch":
        raise LabError(f"no array backend {backend!r}: choose numpy, torch or torch:cuda")
    device = backend.partition(":")[2] or "cpu"
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise LabError("no GPU: torch sees none on this machine; use the backend torch or numpy")
    return TorchArrays(device)


def golden_steps(count: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """count · golden gamma modulo 2^64, as int64: what is added to a stream's seed to reach an output."""
    with np.errstate(over="ignore"):
        return (count.astype(np.uint64) * GOLDEN).view(np.int64)
