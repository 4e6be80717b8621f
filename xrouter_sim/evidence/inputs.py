"""Inputs for programs of which nothing is known but how many arguments they take: the same for every question.

They are ordinary values, and no corner cases: of two programs that both passed the tests of an MBPP training question,
24% to 46% differ on "", {}, 0, 0.5 or -3.7, and 7% to 25% on most of the values here, which tell right from wrong as
well.
"""

from functools import cache
from itertools import product

from xrouter_sim.evidence.values import write_arguments

NUMBERS = (1, 2, 3, 5, 7, 10, 12, 16, 25, 100)
STRINGS = ("a", "abc", "Hello World", "aabbcc", "racecar", "Python 3 is Fun 123", "a,b;c d_e", "AbCdEf", "12321")
INT_LISTS = ([1, 2, 3], [3, 1, 2], [5, 3, 8, 1, 9, 2], [1, 2, 2, 3, 3, 3], [1], [10, 20, 30, 40], [4, 4, 4])
STRING_LISTS = (["a", "b", "c"], ["apple", "fig", "banana", "kiwi"], ["b", "a", "b"])
NESTED = ([[1, 2], [3, 4]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[3], [1, 2], [4, 5, 6]])
TUPLES = ((1, 2, 3), (4, 5, 6, 7), ("a", 1, "b", 2), (3, 1, 2, 3))
TUPLE_LISTS = ([(1, 2), (3, 4)], [("a", 3), ("b", 1), ("c", 2)], [(1, 5), (2, 4), (3, 3)])
DICTS = ({"a": 1, "b": 2}, {"x": 3, "y": 1, "z": 2})

SINGLES = (*NUMBERS, *STRINGS, *INT_LISTS, *STRING_LISTS, *NESTED, *TUPLES, *TUPLE_LISTS, *DICTS)

PAIRS: tuple[tuple[object, object], ...] = (
    *((1, 2), (3, 5), (10, 3), (12, 18), (7, 7), (100, 7)),
    *product(INT_LISTS[:4], (1, 2, 3)),
    *product(INT_LISTS[:3], ([2, 3, 4], [1, 2, 3])),
    *(("abc", "b"), ("Hello World", "o"), ("aabbcc", "abc"), ("listen", "silent"), ("racecar", "race"), ("abc", "abd")),
    *(("Hello World", 2), ("aabbcc", 3), ("b", "abc"), (2, [1, 2, 3])),
    *(((1, 2, 3), (4, 5, 6)), ((3, 1, 2, 3), 3), (["a", "b", "c"], "b"), (["apple", "fig"], 2)),
    *(({"a": 1, "b": 2}, "a"), ({"a": 1, "b": 2}, {"b": 3, "c": 4})),
    *(([[1, 2], [3, 4]], 1), ([(1, 2), (3, 4)], 1), ([(1, 5), (2, 4)], [1, 2])),
)

TRIPLES: tuple[tuple[object, object, object], ...] = (
    *((1, 2, 3), (3, 4, 5), (10, 2, 7), (5, 5, 5), (2, 10, 3), (9, 3, 6)),
    *((numbers, *bounds) for numbers in INT_LISTS[:3] for bounds in ((0, 2), (1, 3), (2, 5))),
    *((numbers, len(numbers), k) for numbers in INT_LISTS[:4] for k in (1, 2, 3)),
    *(([1, 2, 3], [4, 5, 6], [7, 8, 9]), ([1, 2], [2, 3], [2, 5]), ((1, 2), (3, 4), (5, 6))),
    *(("abc", "b", "x"), ("Hello World", "o", "0"), ("aabbcc", 1, 3), ("abc", "abd", "abe")),
)


@cache
def generic(arity: int) -> tuple[str, ...]:
    """Arguments for a function that takes so many, as `write_arguments` writes them; about 45, fewer from four on."""
    several: dict[int, tuple[tuple[object, ...], ...]] = {
        0: ((),),
        1: tuple((value,) for value in SINGLES),
        2: PAIRS,
        3: TRIPLES,
    }
    more = [range(start, start + arity) for start in (1, 2, 5)] + [[[5, 3, 8, 1], 4, *range(1, arity - 1)]]
    written = [write_arguments(list(arguments)) for arguments in several.get(arity, more)]
    return tuple(text for text in written if text is not None)
