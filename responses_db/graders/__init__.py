"""How an answer is scored. A new grader is one new file and one line in GRADERS; a package of your own
announces an instance as an entry point of `xrouter_sim.graders`."""

from responses_db.graders.base import Grader, Verdict, final_answer, grade
from responses_db.graders.choice import ChoiceGrader
from responses_db.graders.code import CodeGrader
from responses_db.graders.exact import ExactGrader
from responses_db.graders.judge import JudgeGrader
from responses_db.graders.mathematics import MathGrader
from responses_db.graders.numeric import NumericGrader
from responses_db.graders.reasoning_gym import ReasoningGymGrader
from responses_db.plugins import plugins

__all__ = ["GRADERS", "JUDGE", "Grader", "Verdict", "final_answer", "grade"]

_ALL: list[Grader] = [
    ExactGrader(),
    ChoiceGrader(),
    NumericGrader(),
    MathGrader(),
    ReasoningGymGrader(),
    CodeGrader(),
    JudgeGrader(),
]

JUDGE = JudgeGrader.name
"""The one grader that cannot grade at once: it must ask a model (see judging.py)."""

GRADERS = {grader.name: grader for grader in _ALL}
GRADERS |= plugins("graders", GRADERS)
