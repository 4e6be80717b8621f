"""The RL router's face: the small policy network on encoded observations, and how it is kept on disk."""

import copy
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from responses_db import LabError
from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.replay import Bools, Floats, Ints, Replay
from xrouter_sim.routers.base import Kind, Router
from xrouter_sim.routers.encoding import EVIDENCE, Encoder, View
from xrouter_sim.routers.network import PolicyNetwork
from xrouter_sim.routers.unmet import Unmet

RL, WITHOUT = "rl", "rl:without"


def is_trained(name: str) -> bool:
    """Whether a router of this name is trained in the simulator."""
    return name == RL or name.startswith(f"{WITHOUT}-")


class RLRouter(Router):
    """Calls an arm, looks at what came back, and calls again or selects one of the responses.

    A second call that will be made whatever the first one brings is made at the same time (`calls_ahead`): it costs the
    same and saves a turn.

    `fit` prepares the encoder and an untrained network; `training.rl.Trainer` trains it.
    """

    kind: ClassVar[Kind] = "rl"
    reads = ("query text", "domain", "pool", "prices", "penalty", "budget", "cost so far", "answers", "errors")
    encoder: Encoder
    network: PolicyNetwork

    def __init__(self, calls_ahead: bool = True, without: tuple[str, ...] = ()) -> None:
        """`without`: names of `encoding.EVIDENCE` to leave out."""
        self.calls_ahead, self.without = calls_ahead, without
        self.name = "-".join([WITHOUT, *without]) if without else RL

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.arm_names = replay.arm_names
        self.encoder = Encoder(replay, queries, cost_unit, without=self.without)
        torch.manual_seed(seed)
        self.network = PolicyNetwork(self._features(replay))

    def extended(self, replay: Replay, queries: Ints, calibration: Ints, cost_unit: float, seed: int) -> "RLRouter":
        """This router, its network unchanged, for a replay with more arms (see `bench.unseen.Extends`)."""
        known = np.isin(replay.arm_names, self.arm_names)
        router = copy.copy(self)
        router.arm_names = replay.arm_names
        router.encoder = Encoder(replay, queries, cost_unit, Unmet(known, queries, calibration), self.without)
        router.encoder.to(self.encoder.device)
        return router

    @property
    def predicted_score(self) -> Floats:
        """[Q, A] expected score before any call."""
        return self.encoder.prior.score

    @classmethod
    def named(cls, name: str) -> "RLRouter":
        """An unfitted router: rl, or rl:without-EVIDENCE. Raises LabError for evidence that is not known."""
        left_out = tuple(filter(None, name.removeprefix(RL).removeprefix(":without-").split("-")))
        if unknown := [kind for kind in left_out if kind not in EVIDENCE]:
            raise LabError(f"no evidence {unknown[0]!r} in {name}: it has {', '.join(EVIDENCE)}")
        return cls(without=left_out)

    def act(self, observation: Observation) -> Action:
        """The likeliest action."""
        view = self.encoder.view(observation)
        choice, plans = self._choice(view)
        ahead = None
        first = ~view.called.any(dim=2)[:, 0].numpy() & ~observation.last_turn
        if self.calls_ahead and (first & plans).any():
            rows = np.flatnonzero(first & plans)
            ahead = np.full(len(choice), NO_CALL)
            ahead[rows] = self._ahead(view.take(torch.from_numpy(rows)), torch.from_numpy(choice[rows]))
        return to_action(choice, view, observation, ahead)

    @torch.inference_mode()
    def _choice(self, view: View) -> tuple[Ints, Bools]:
        """[B] index of the likeliest logit, and whether it is a call that begins a plan of several."""
        output = self.network(self.encoder(view, self.network.makes_plans(view.penalty.to(self.encoder.device))))
        likeliest = output.logits[:, 0].argmax(dim=1, keepdim=True)
        plans = nn.functional.pad(output.plans[:, 0], (0, view.arm.shape[1])).gather(1, likeliest)
        return likeliest[:, 0].cpu().numpy(), plans[:, 0].cpu().numpy()

    def _ahead(self, view: View, place: Tensor) -> Ints:
        """[B] the arm that would be called next if the one at `place` gave its usual answer, where one would be called
        whatever the answer is; else NO_CALL."""
        usual, *others = [*self.encoder.usual_options, None]
        width, ahead = view.arm.shape[1], np.full(len(place), NO_CALL)
        choice, _ = self._choice(self.encoder.answered(view, place, [usual]))
        rows = np.flatnonzero(choice < width)
        if len(rows) and others:
            left = torch.from_numpy(rows).repeat(len(others))
            again, _ = self._choice(self.encoder.answered(view.take(left), place[left], others))
            rows = rows[(again.reshape(len(others), -1) < width).all(axis=0)]
        ahead[rows] = view.arm.numpy()[rows, choice[rows]]
        return ahead

    def weights(self) -> dict[str, Tensor]:
        """A copy of the network's parameters, by name."""
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def to(self, device: str) -> None:
        """Move network and encoder to a device that torch knows. Raises LabError where it is not there."""
        try:
            self.encoder.to(torch.device(device))
            self.network.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise LabError(f"no device {device!r} ({reason}): use cpu, or cuda where torch sees a GPU") from error

    def _features(self, replay: Replay) -> int:
        simulator = Simulator(replay, Profile(), 0, self.encoder.cost_unit)
        first = np.zeros(1, np.int64)
        observation = simulator.observe(simulator.reset(first, first, np.zeros(1)))
        return self.encoder(self.encoder.view(observation)).tokens.shape[-1]


def to_action(choice: Ints, view: View, observation: Observation, ahead: Ints | None = None) -> Action:
    """The routing action for the index of a logit ([B]): call the i-th arm of the view, or select the response of arm
    i − m.

    `ahead` [B] is called at the same time. A call in the last turn is taken as it comes; where nothing can be called or
    selected the episode ends without an answer.
    """
    width = view.arm.shape[1]
    selects, arm = choice >= width, view.arm.numpy()[np.arange(len(choice)), choice % width]
    slot = (observation.arm == arm[:, None]).argmax(axis=1)
    call_final = np.where(observation.last_turn, int(Final.ADOPT), int(Final.CONTINUE))
    stuck = ~(view.callable.any(dim=2) | view.ok.any(dim=2))[:, 0].numpy()
    calls = [np.where(selects | stuck, NO_CALL, arm)]
    if ahead is not None and (ahead != NO_CALL).any():
        calls.append(ahead)
    final = np.where(selects, slot, call_final)
    return Action(np.stack(calls, axis=1), np.where(stuck, int(Final.NONE), final))
