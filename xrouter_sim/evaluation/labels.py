"""Where a chart's direct labels go, so that none covers a point, a line or another label."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LETTER = 6.9  # px, mean width of a letter in a 12 px sans-serif
LINE = 13.0  # px, height of such a line
GAP = 7.0  # px between a point and its label


@dataclass(frozen=True)
class Side:
    """Where a label hangs from its point: the text's alignment, and the shift of its anchor in px."""

    align: str  # left, center or right, as Vega has it
    dx: float
    dy: float


SIDES = {
    "right": Side("left", GAP, 0),
    "left": Side("right", -GAP, 0),
    "above": Side("center", 0, -GAP - LINE / 2),
    "below": Side("center", 0, GAP + LINE / 2),
    # Curves rise to the right, so a point on one has room on the other diagonal.
    "below right": Side("left", GAP / 2, GAP + LINE / 2),
    "above left": Side("right", -GAP / 2, -GAP - LINE / 2),
}
"""Best first."""


@dataclass(frozen=True)
class Anchor:
    """Something to label: its text, and where it may hang, best first, in px from the top left."""

    text: str
    places: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Placed:
    """A label that fits: which anchor, at which of its places, on which side of it."""

    anchor: int
    place: int
    side: str


Box = tuple[float, float, float, float]  # left, top, right, bottom in px


def place(
    anchors: Sequence[Anchor], obstacles: Iterable[tuple[float, float]], size: tuple[float, float]
) -> list[Placed]:
    """Place labels greedily, most important first; one that fits nowhere is left out (tooltip and table still have it).

    `obstacles` are points in px to keep clear of, `size` the plot's width and height in px.

    >>> place([Anchor("a", [(5.0, 50.0)]), Anchor("b", [(5.0, 50.0)])], [], (100.0, 100.0))
    [Placed(anchor=0, place=0, side='right'), Placed(anchor=1, place=0, side='above')]
    """
    taken = [(x - 2, y - 2, x + 2, y + 2) for x, y in obstacles]
    found = []
    for index, anchor in enumerate(anchors):
        options = ((number, side) for number in range(len(anchor.places)) for side in SIDES)
        for number, side in options:
            box = _box(anchor.text, anchor.places[number], side)
            if _inside(box, size) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found.append(Placed(index, number, side))
                break
    return found


def _box(text: str, place: tuple[float, float], side: str) -> Box:
    hang, width = SIDES[side], LETTER * len(text)
    left = place[0] + hang.dx - {"left": 0.0, "center": width / 2, "right": width}[hang.align]
    top = place[1] + hang.dy - LINE / 2
    return left, top, left + width, top + LINE


def _inside(box: Box, size: tuple[float, float]) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
