"""The process that math-verify runs in: one JSON question a line on stdin, one JSON answer a line on stdout.

{"read": text} → the answer in it, in normal form, or null. {"same": answer, "as": reference} → true or false. What
raises, or takes longer than SECONDS, gives {"error": …}.
"""

import json
import resource
import sys
from fractions import Fraction
from typing import Any

SECONDS = 8
MEMORY = 3 << 30


def read(text: str) -> str | None:
    found = _parse(text)
    if not found:
        return None
    value, written = (found[0], str(found[-1])) if len(found) > 1 else ("", str(found[0]))
    return _number(value) or " ".join(written.split()) or None


def same(answer: str, reference: str) -> bool:
    from math_verify import verify

    gold = _parse(reference)
    if not gold:
        raise ValueError(f"the reference {reference!r} cannot be read")
    return bool(verify(gold, _parse(answer), timeout_seconds=SECONDS, raise_on_error=True))


def _parse(text: str) -> list[Any]:
    from math_verify import parse

    found = parse(text, parsing_timeout=SECONDS, raise_on_error=True)
    assert isinstance(found, list)
    return found


def _number(value: object) -> str | None:
    """A whole number, a fraction in lowest terms or a decimal; None for anything else.

    A decimal stays one: math-verify compares it with a fraction to six digits, as whoever rounds expects.
    """
    from sympy import Float, Integer, Mul, Pow, Rational

    if isinstance(value, Integer):
        return str(value)
    if isinstance(value, Float):
        return format(value.num.__float__(), "f").rstrip("0").rstrip(".") if abs(value) < 1e15 else str(value)
    if isinstance(value, Rational):
        return str(value)
    if isinstance(value, Mul) and len(value.args) == 2:  # 1/2 as parsed, not evaluated
        above, below = value.args
        if isinstance(above, Integer) and isinstance(below, Pow) and below.args[1] == -1:
            divisor = below.args[0]
            if isinstance(divisor, Integer) and divisor != 100:  # 50% is no fraction: it equals 50 as well
                return str(Fraction(int(above), int(divisor)))
    return None


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        question = json.loads(line)
        try:
            value = read(question["read"]) if "read" in question else same(question["same"], question["as"])
            reply = {"value": value}
        except (KeyboardInterrupt, SystemExit):
            return
        except BaseException as error:  # math-verify's TimeoutException is no Exception
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
