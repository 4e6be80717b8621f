"""TRL's fused head, made to score on a CPU what it scores on a GPU: the positions that have a label.

Without Triton it scores every position, prompts included, so that a compiled kernel meets one shape in every batch.
We compile nothing, and a router says one token in twenty: with SmolLM2's vocabulary of 49,152 all those scores took
20 of 24 seconds of a step of the warm start on one core, and 100 of 140 of a step of GRPO.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trl.trainer import utils

TRL: Any = utils


@contextmanager
def compact_head() -> Iterator[None]:
    """While it lasts. Losses are the same. Does nothing with a TRL that has no such switch (seen in 1.16)."""
    before = getattr(TRL, "_use_triton", None)
    if before is not None:
        TRL._use_triton = lambda device: True  # asked in this module for nothing else
    try:
        yield
    finally:
        if before is not None:
            TRL._use_triton = before
