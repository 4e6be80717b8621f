"""A hard cap in USD on what a harvest's answers cost.

Before a call is sent, the most that it can cost is reserved; when its answer is safely on disk, the reservation gives
way to what it did cost. A call that brought no answer but may be billed (a timeout, a cut connection, a malformed body)
counts with its whole reservation as lost. So spent + lost + reserved never exceed the cap, whatever the endpoint does,
as long as it bills no more tokens than the request allows.

The cap is on all answers of a config in one store, over any number of runs. What was spent is read from the answers
themselves; what was lost, and what is in flight, is noted in a small file a run, before it can happen: after `kill -9`
the next run counts what was in flight as lost.
"""

import asyncio
import json
import os
import uuid
from collections import deque
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from responses_db.errors import LabError

ROUNDING_USD = 1e-11


class BudgetReached(Exception):  # noqa: N818  # no error: the budget did what it is for
    """The next call might exceed the cap, and nothing in flight could make room for it."""


@dataclass(frozen=True)
class Note:
    """What one run of these models lost, and had in flight at most, in USD."""

    models: list[str]
    lost_usd: float
    in_flight_usd: float


class SpendingNotes:
    """What runs of these models lost or had in flight, in FOLDER/spending/RUN.json. One file for each run, its own."""

    def __init__(self, folder: Path, model_ids: Collection[str]) -> None:
        self._folder = folder / "spending"
        self._models = sorted(model_ids)
        self._file = self._folder / f"{uuid.uuid4().hex}.json"

    def lost_usd(self) -> float:
        """USD lost in earlier runs that asked one of these models; in flight when a run was killed counts as lost."""
        notes = [note for file in self._folder.glob("*.json") if (note := _read(file))]
        return sum(note.lost_usd + note.in_flight_usd for note in notes if set(note.models) & set(self._models))

    def write(self, lost_usd: float, in_flight_usd: float) -> None:
        """Durably, and whole or not at all. LabError when it cannot be written."""
        note = Note(self._models, lost_usd, in_flight_usd)
        scratch = self._file.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with scratch.open("w") as file:
                json.dump(asdict(note), file)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._file)
        except OSError as error:
            raise LabError(f"{self._file}: cannot note what is spent ({error}): free some space, run again") from error

    def forget(self) -> None:
        """This run lost nothing, and has nothing in flight."""
        self._file.unlink(missing_ok=True)


def _read(file: Path) -> Note | None:
    """None when the run that wrote it has just ended. LabError when it cannot be read."""
    try:
        note = json.loads(file.read_text())
        return Note(list(note["models"]), float(note["lost_usd"]), float(note["in_flight_usd"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{file}: no note of what was spent ({error!r}): see what it says, then delete it") from None


class Budget:
    """The cap, and what is spent, lost and reserved of it, all in USD. Used by one event loop."""

    def __init__(self, cap_usd: float, notes: SpendingNotes) -> None:
        self.cap_usd, self._notes = cap_usd, notes
        self.lost_before_usd = notes.lost_usd()
        self.spent_usd = self.lost_usd = self.reserved_usd = 0.0
        self._noted_usd = 0.0
        self._waiting = deque[asyncio.Future[None]]()

    @property
    def left_usd(self) -> float:
        return self.cap_usd - self.spent_usd - self.lost_before_usd - self.lost_usd - self.reserved_usd

    def spend(self, usd: float) -> None:
        """Count an answer that is there already."""
        self.spent_usd += usd

    def ready(self, usd: float) -> bool:
        """Whether so much can be reserved at once."""
        return not self._waiting and usd <= self.left_usd

    async def reserve(self, usd: float) -> None:
        """Wait until there is room for so much, and take it. BudgetReached when there will be none."""
        if not self.ready(usd):
            await self._room(usd)
        self.reserved_usd += usd
        if self.reserved_usd > self._noted_usd:
            self._note(usd)
        self._wake()

    def settle(self, reserved: float, usd: float) -> None:
        """An answer is on disk: it cost `usd`."""
        self.spent_usd += usd
        self._free(reserved)

    def lose(self, reserved: float) -> None:
        """No answer came, but it may be billed."""
        self.lost_usd += reserved
        self._free(reserved)
        self._note(0.0)

    def release(self, reserved: float) -> None:
        """No answer came, and nothing is billed for it."""
        self._free(reserved)

    def close(self) -> None:
        """At the end of a run: what is still in flight is lost."""
        self.lost_usd, self.reserved_usd = self.lost_usd + self.reserved_usd, 0.0
        if self.lost_usd:
            self._notes.write(self.lost_usd, 0.0)
        else:
            self._notes.forget()

    async def _room(self, usd: float) -> None:
        """Wait in line until `usd` fits."""
        first_time = True
        while not (usd <= self.left_usd and (not first_time or not self._waiting)):
            if usd > self.left_usd and not self.reserved_usd:
                self._wake()
                raise BudgetReached
            turn = asyncio.get_running_loop().create_future()
            if first_time:
                self._waiting.append(turn)
            else:
                self._waiting.appendleft(turn)
            first_time = False
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                self._wake()
                raise

    def _free(self, usd: float) -> None:
        self.reserved_usd = max(self.reserved_usd - usd, 0.0)
        if self.reserved_usd < ROUNDING_USD:
            self.reserved_usd = 0.0  # what rounding leaves must not look like a call in flight
        self._wake()

    def _wake(self) -> None:
        """Let the first in line see whether there is room now."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _note(self, next_usd: float) -> None:
        """Note more than is in flight, so that few calls must wait for the disk; but no more than the cap allows."""
        ahead = self.reserved_usd * 1.25 + 8 * next_usd
        self._noted_usd = min(ahead, self.reserved_usd + max(self.left_usd, 0.0))
        self._notes.write(self.lost_usd, self._noted_usd)
