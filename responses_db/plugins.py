"""Parts of a user's own, beside those of the lab: announced by installed packages, or named as FILE.py:NAME."""

import importlib.util
from collections.abc import Collection
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from responses_db.errors import LabError

Kind = Literal["routers", "providers", "tasks", "graders"]


def plugins(kind: Kind, taken: Collection[str]) -> dict[str, Any]:
    """What installed packages announce under the entry point group `xrouter_sim.KIND`, by name.

    Raises LabError for one that cannot be imported, or whose name is taken.
    """
    found: dict[str, Any] = {}
    for entry in entry_points(group=f"xrouter_sim.{kind}"):
        source = entry.dist.name if entry.dist else "a package"
        if entry.name in taken or entry.name in found:
            raise LabError(f"{source} announces {entry.name!r} in xrouter_sim.{kind}, a name that is taken: rename it")
        try:
            found[entry.name] = entry.load()
        except Exception as error:
            raise LabError(
                f"{entry.name!r} of {source} ({entry.value}) cannot be imported ({error}): mend or uninstall {source}"
            ) from error
    return found


def names_file(name: str) -> bool:
    """Whether a name is of the form FILE.py:NAME."""
    return ".py:" in name


def from_file(name: str) -> Any:
    """The object that FILE.py:NAME names; the file is run. Raises LabError when there is none, or it fails."""
    path, _, attribute = name.rpartition(":")
    file = Path(path)
    if not file.is_file():
        raise LabError(f"{path}: no such file; {name!r} is to name a class in a Python file")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise LabError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise LabError(f"{path} fails when it is imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise LabError(f"{path} has no {attribute!r}: it defines {', '.join(_defined(module)) or 'nothing'}")
    return getattr(module, attribute)


def _defined(module: Any) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
