"""From the paths a user names to files to read: folders are searched, compression and tar archives seen through."""

import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import IO

import pyarrow as pa

from responses_db.errors import LabError

PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
TROUBLE = (OSError, EOFError, ValueError, zlib.error, tarfile.TarError, pa.ArrowException, MemoryError, OverflowError)
"""What damaged compression may raise."""


@dataclass(frozen=True)
class Source:
    """One file to read. `path` is for what its name tells; `local` is set where it lies on disk as it is.

    `explicit` is false for what was merely found in a folder.
    """

    name: str
    path: PurePath
    load: Callable[[], bytes]
    local: Path | None = None
    explicit: bool = True

    @property
    def stem(self) -> str:
        """The file's name without its last suffix, and without that of its compression."""
        return self.path.stem

    def is_a(self, *suffixes: str) -> bool:
        return self.path.suffix.lower() in suffixes


def check_paths(paths: Sequence[Path]) -> None:
    """Raise LabError for a path that is not there."""
    for path in paths:
        if not path.exists():
            raise LabError(f"{path}: no such file; give a Parquet or CSV file, or what --help names for this form")


def find(paths: Sequence[Path], accepts: Callable[[str], bool], passed_over: list[str]) -> Iterator[Source]:
    """Every file named, and every file in a folder named (and below) whose name the form accepts.

    One at a time, so that an archive need not fit in memory. The other files of a folder go to `passed_over`.
    """
    for path in dict.fromkeys(paths):
        if not path.is_dir():
            yield from _sources(path, accepts, explicit=True)
            continue
        for file in sorted(path.rglob("*")):
            if file.is_file() and (accepts(_unpacked(file).name) or _is_archive(file)):
                yield from _sources(file, accepts, explicit=False)
            elif file.is_file():
                passed_over.append(str(file))


def _sources(file: Path, accepts: Callable[[str], bool], *, explicit: bool) -> Iterator[Source]:
    if _is_archive(file):
        yield from _members(file, accepts)
        return
    packed = _compression(file)
    local = None if packed else file
    yield Source(str(file), _unpacked(file), partial(_read, file, packed), local, explicit)


def _is_archive(file: Path) -> bool:
    return re.search(r"\.(tar|tar\.gz|tgz)$", file.name.lower()) is not None


def _unpacked(file: Path) -> Path:
    return file.with_suffix("") if file.suffix.lower() in PACKED else file


def _compression(file: Path) -> str | None:
    with file.open("rb") as stream:
        head = stream.read(4)
    for magic, codec in MAGIC.items():
        if head.startswith(magic):
            return codec
    return PACKED.get(file.suffix.lower())


def _read(file: Path, packed: str | None) -> bytes:
    if packed is None:
        return file.read_bytes()
    try:
        with pa.input_stream(str(file), compression=packed) as stream:
            return bytes(stream.read())
    except TROUBLE as error:
        raise LabError(f"{file}: damaged or cut-short {packed} file, fetch it again ({first_line(error)})") from error


def _members(file: Path, accepts: Callable[[str], bool]) -> Iterator[Source]:
    """The files of a tar archive, read one by one as they come; nothing is unpacked on disk."""
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                path = PurePath(member.name)
                if member.isfile() and accepts(path.name):
                    stream = archive.extractfile(member)
                    content = stream.read() if stream else b""
                    yield Source(f"{file}:{path}", path, partial(bytes, content), explicit=False)
    except TROUBLE as error:
        raise LabError(f"{file}: damaged or cut-short archive, fetch it again ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def shown(value: object) -> str:
    """A value in an error: one line, and never a page of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[0] * text.startswith(("'", '"'))


def named(*parts: object) -> str:
    """Names out of a file, for an error: each on one line and never a page long."""
    return ", ".join(" ".join(str(part)[:61].split())[:60] + "…" * (len(str(part)) > 60) for part in parts)


def text_lines(content: bytes, name: str) -> IO[str]:
    """The content as lines of text. Raises LabError where it is no UTF-8."""
    try:
        return io.StringIO(content.decode("utf-8-sig"), newline="\n")
    except UnicodeDecodeError as error:
        raise LabError(f"{name}: no UTF-8 text at byte {error.start}: convert it, or fetch it again") from error
