"""Item response theory (MIRT of IRT-Router, Song et al., arXiv 2506.01048): what a question asks, what an arm can do.

An arm has several abilities; a question weighs them by its discrimination and sets its difficulty against them. Both
are read off its embedding, so questions never seen before have them as well.
"""

from typing import TYPE_CHECKING, ClassVar

from xrouter_sim.replay import Floats
from xrouter_sim.routers.latent import likelihood_fit
from xrouter_sim.routers.predictive import Predictive

if TYPE_CHECKING:
    from torch import Tensor

ABILITIES = 4


class ItemResponse(Predictive):
    """Log-odds of a right answer: discrimination · ability − difficulty; `setting` is the penalty.

    Discriminations are above 0: more of an ability never hurts.
    """

    name = "irt"
    settings: ClassVar = (2e-3, 1e-3, 5e-4, 2.5e-4, 1.2e-4)

    def predict(self, known: Floats, targets: Floats, asked: Floats, setting: float, seed: int) -> Floats:
        arms, width = targets.shape[1], known.shape[1]
        shapes = [(width, ABILITIES), (ABILITIES,), (arms, ABILITIES), (width, 1), (1,)]
        return likelihood_fit(_logits, shapes, known, targets, asked, setting, seed)


def _logits(parameters: "list[Tensor]", question: "Tensor") -> "Tensor":
    from torch.nn.functional import softplus

    weights, offset, ability, difficulty, level = parameters
    discrimination = softplus(question @ weights + offset)
    return discrimination @ ability.T - (question @ difficulty + level)
