"""The text of a simulated answer: a few short sentences that end in `Answer: …`, hedged now and then.

The text is a digest, not a transcript: the token counts speak of the whole reasoning, the text only of its end.
"""

OPENINGS = (
    "Working through the given conditions.",
    "Reading the question carefully.",
    "I went over the statement once.",
    "Taking the parts in turn.",
)

STEPS = (
    "Step by step: first the given facts, then what follows from them, then a check of the last step.",
    "First I write down what is known, next I apply the rules in order, finally I read off the result.",
    "Let me reason step by step: the pieces are combined one after another and the total is compared with the start.",
)

FILLERS = (
    "The intermediate results were kept and compared.",
    "One detail needed a second look.",
    "Another reading of the task was considered and set aside.",
)

HEDGES = (
    "I think this is right, but I am not entirely certain.",
    "This is probably the result.",
    "I might be missing a case here; perhaps one more check would help.",
    "I am not sure about the last step.",
)


def hedges(u: float) -> str:
    """A hedging sentence, chosen by u in [0, 1)."""
    return _pick(HEDGES, u * 7 % 1)


def wording(answer: str, system: str, hedge: str, right: bool, u: float, v: float) -> str:
    """The whole text; u and v in [0, 1) choose the words. Wrong answers run a little longer."""
    sentences = [_pick(OPENINGS, u)]
    if "step by step" in system.lower():
        sentences.append(_pick(STEPS, u * 5 % 1))
    fillers = int(v * (2.6 if right else 3.2))
    sentences.extend(FILLERS[:fillers])
    if hedge:
        sentences.append(hedge)
    return f"{' '.join(sentences)}\nAnswer: {answer}"


def _pick(choices: tuple[str, ...], u: float) -> str:
    return choices[int(u * len(choices))]
