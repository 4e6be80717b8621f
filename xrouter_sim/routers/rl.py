"""The RL router's face: the small policy network on encoded observations, and how it is kept on disk."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from responses_db import LabError
from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Ints, Replay
from xrouter_sim.routers.base import Kind, Router
from xrouter_sim.routers.encoding import Encoder
from xrouter_sim.routers.network import PolicyNetwork, State


class RLRouter(Router):
    """Calls an arm, looks at what came back, and calls again or selects one of the responses.

    `fit` prepares the encoder and an untrained network; `training.rl.train` trains it.
    """

    name = "rl"
    kind: ClassVar[Kind] = "rl"
    reads = ("query text", "domain", "pool", "prices", "penalty", "budget", "cost so far", "answers", "errors")
    encoder: Encoder
    network: PolicyNetwork

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.encoder = Encoder(replay, queries, cost_unit)
        torch.manual_seed(seed)
        self.network = PolicyNetwork(self._features(replay))

    def act(self, observation: Observation) -> Action:
        """The likeliest action."""
        state = self.encoder(self.encoder.view(observation))
        with torch.inference_mode():
            logits = self.network(state).logits[:, 0]
        return to_action(logits.argmax(dim=1).cpu().numpy(), state, observation)

    def to(self, device: str) -> None:
        """Move network and encoder to a device that torch knows. Raises LabError where it is not there."""
        try:
            self.encoder.to(torch.device(device))
            self.network.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise LabError(f"no device {device!r} ({reason}): use cpu, or cuda where torch sees a GPU") from error

    def weights(self) -> dict[str, Tensor]:
        """The network's parameters by name."""
        return dict(self.network.state_dict())

    def _features(self, replay: Replay) -> int:
        simulator = Simulator(replay, Profile(), 0, self.encoder.cost_unit)
        first = np.zeros(1, np.int64)
        observation = simulator.observe(simulator.reset(first, first, np.zeros(1)))
        return self.encoder(self.encoder.view(observation)).tokens.shape[-1]


def to_action(choice: Ints, state: State, observation: Observation) -> Action:
    """The routing action for the index of a logit ([B]): call arm i, or select the response of arm i − A.

    A call in the last turn is taken as it comes; where nothing can be called or selected the episode ends without an
    answer.
    """
    arms = state.callable.shape[2]
    selects, arm = choice >= arms, choice % arms
    slot = (observation.arm == arm[:, None]).argmax(axis=1)
    call_final = np.where(observation.last_turn, int(Final.ADOPT), int(Final.CONTINUE))
    stuck = ~(state.callable.any(dim=2) | state.ok.any(dim=2))[:, 0].cpu().numpy()
    calls = np.where(selects | stuck, NO_CALL, arm)
    final = np.where(selects, slot, call_final)
    return Action(calls[:, None], np.where(stuck, int(Final.NONE), final))
