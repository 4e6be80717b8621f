"""A training run on disk: one safetensors file, replaced whole, from which it goes on as if never stopped."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from responses_db import LabError
from xrouter_sim.files import written_whole
from xrouter_sim.training.rl import Trainer, config_as_dict

FILE = "checkpoint.safetensors"


def save(trainer: Trainer, folder: Path, store_hash: str) -> None:
    """Write the trainer's whole state to `folder`; a kill at any moment leaves the old file or the new one."""
    tensors: dict[str, Tensor] = {}
    for part, weights in (
        ("network", trainer.router.weights()),
        ("average", trainer.average),
        ("best", trainer.best),
    ):
        tensors |= {f"{part}.{name}": value.contiguous().clone() for name, value in weights.items()}
    for index, state in trainer.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value.clone() for name, value in state.items()}
    facts = {
        "config": config_as_dict(trainer.config),
        "update": trainer.update,
        "best_reward": trainer.best_reward,
        "best_update": trainer.best_update,
        "curve": trainer.curve,
        "store_hash": store_hash,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / FILE) as fresh:
        save_file(tensors, fresh, metadata={"facts": json.dumps(facts)})


def read_facts(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself: config, update, curve, store hash. Raises LabError when it cannot be read."""
    path = folder / FILE
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise LabError(f"{path} is no readable checkpoint ({error}): train anew with --overwrite") from error
    return facts


def best_weights(folder: Path) -> dict[str, Tensor]:
    """The weights that validation chose, by name. Raises LabError when the file cannot be read."""
    path = folder / FILE
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith("best.")]  # noqa: SIM118 - no mapping
            return {name.removeprefix("best."): file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise LabError(f"{path} is no readable checkpoint ({error}): train anew") from error


def restore(trainer: Trainer, folder: Path) -> None:
    """Put a trainer (of the same config and store) into the state that was saved."""
    facts = read_facts(folder)
    with safe_open(folder / FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "best": {}}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, rest = name.split(".", 1)
        if part == "optimiser":
            index, moment = rest.split(".", 1)
            moments.setdefault(int(index), {})[moment] = value
        else:
            parts[part][rest] = value
    trainer.router.network.load_state_dict(parts["network"])
    trainer.average, trainer.best = parts["average"], parts["best"]
    groups = trainer.optimiser.state_dict()["param_groups"]
    trainer.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    trainer.update, trainer.curve = facts["update"], facts["curve"]
    trainer.best_reward, trainer.best_update = facts["best_reward"], facts["best_update"]
