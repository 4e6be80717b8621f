"""A training run on disk: one safetensors file, replaced whole, from which it goes on as if never stopped."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from responses_db import LabError
from xrouter_sim.files import written_whole
from xrouter_sim.training.config import config_as_dict
from xrouter_sim.training.rl import Trainer

FILE = "checkpoint.safetensors"


def save(trainer: Trainer, folder: Path, store_hash: str) -> None:
    """Write the trainer's whole state to `folder`; a kill at any moment leaves the old file or the new one."""
    tensors = {f"best.{name}": value for name, value in trainer.best.items()}
    for member in trainer.members:
        for part, weights in (("network", member.weights()), ("average", member.average)):
            tensors |= {f"{part}.{member.number}.{name}": value for name, value in weights.items()}
        for index, state in member.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{member.number}.{index}.{name}": value for name, value in state.items()}
    tensors = {name: value.cpu().contiguous().clone() for name, value in tensors.items()}
    facts = {
        "config": config_as_dict(trainer.config),
        "update": trainer.update,
        "best_reward": trainer.best_reward,
        "best_update": trainer.best_update,
        "chosen": trainer.chosen,
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
        names = list(file.keys())
        tensors = {name: file.get_tensor(name).to(trainer.router.encoder.device) for name in names}
    trainer.best = _under("best.", tensors)
    for member in trainer.members:
        member.network.load_state_dict(_under(f"network.{member.number}.", tensors))
        member.average = _under(f"average.{member.number}.", tensors)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(f"optimiser.{member.number}.", tensors).items():
            index, moment = name.split(".", 1)
            moments.setdefault(int(index), {})[moment] = value
        groups = member.optimiser.state_dict()["param_groups"]
        member.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    trainer.update, trainer.curve = facts["update"], facts["curve"]
    trainer.best_reward, trainer.best_update = facts["best_reward"], facts["best_update"]
    trainer.chosen = facts["chosen"]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
