"""What models with latent factors share: parameters of any differentiable score, fitted by penalised likelihood."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from xrouter_sim.engine.randomness import Purpose, normal
from xrouter_sim.replay import Floats

if TYPE_CHECKING:
    from torch import Tensor

Logits = Callable[["list[Tensor]", "Tensor"], "Tensor"]
"""From parameters and features [n, F] to the log-odds [n, A] of a right answer."""

STEPS = 30
TOLERANCE = 1e-6
"""Of the loss, in nats: where a step gains less, no prediction moves by what matters."""
START = 0.1


def likelihood_fit(
    logits: Logits,
    shapes: list[tuple[int, ...]],
    known: Floats,
    targets: Floats,
    asked: Floats,
    penalty: float,
    seed: int,
) -> Floats:
    """[m, A] chances of a right answer for `asked` [m, F], fitted on `known` [n, F] and `targets` [n, A] in [0, 1].

    Matrices among the parameters start at random and pay `penalty` times their squared norm on top of the mean
    cross-entropy; vectors start at 0 and are free. L-BFGS on all rows at once, so nothing hangs on a batch.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would change the last bits, and on shared cores wait for each other
    try:
        parameters = [
            torch.tensor(_start(shape, number, seed), requires_grad=True) for number, shape in enumerate(shapes)
        ]
        _minimise(logits, parameters, torch.from_numpy(known), torch.from_numpy(targets.copy()), penalty)
        with torch.no_grad():
            chance: Floats = torch.sigmoid(logits(parameters, torch.from_numpy(asked))).numpy()
    finally:
        torch.set_num_threads(threads)
    return chance


def _minimise(logits: Logits, parameters: "list[Tensor]", question: "Tensor", right: "Tensor", penalty: float) -> None:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    optimiser = torch.optim.LBFGS(parameters, max_iter=STEPS, tolerance_change=TOLERANCE, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        value = binary_cross_entropy_with_logits(logits(parameters, question), right)
        for matrix in (each for each in parameters if each.ndim == 2):
            value = value + penalty * matrix.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    optimiser.step(loss)  # type: ignore[no-untyped-call]


def _start(shape: tuple[int, ...], number: int, seed: int) -> Floats:
    if len(shape) == 1:
        return np.zeros(shape)
    return START * normal(seed, Purpose.POLICY, number, np.arange(shape[0])[:, None], np.arange(shape[1]))
