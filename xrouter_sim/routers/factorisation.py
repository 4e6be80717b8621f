"""Matrix factorisation: an embedding of the arm times a projection of the question's.

RouteLLM (Ong et al., arXiv 2406.18665) fits it to preferences between two models; EmbedLLM (Zhuang et al., arXiv
2410.02223) to whether each of many models is right, which is what the store has.
"""

from typing import TYPE_CHECKING, ClassVar

from xrouter_sim.replay import Floats
from xrouter_sim.routers.latent import likelihood_fit
from xrouter_sim.routers.predictive import Predictive

if TYPE_CHECKING:
    from torch import Tensor

RANK = 8


class Factorisation(Predictive):
    """Log-odds of a right answer: the arm's vector times RANK projections of the question; `setting` is the penalty."""

    name = "factorisation"
    settings: ClassVar = (4e-3, 2e-3, 1e-3, 5e-4, 2.5e-4)

    def predict(self, known: Floats, targets: Floats, asked: Floats, setting: float, seed: int) -> Floats:
        arms, width = targets.shape[1], known.shape[1]
        shapes = [(width, RANK), (arms, RANK), (arms,)]
        return likelihood_fit(_logits, shapes, known, targets, asked, setting, seed)


def _logits(parameters: "list[Tensor]", question: "Tensor") -> "Tensor":
    projection, arm, bias = parameters
    return (question @ projection) @ arm.T + bias
