"""An episode's trace as a person reads it: the question, the pool, a time line of the calls, the verdict.

Colours are put in with `click.style`; `click.echo` takes them out where the output is no terminal.
"""

from collections.abc import Iterable
from textwrap import wrap

import click

from xrouter_sim.engine.trace import AttemptTrace, CallTrace, EpisodeTrace, Offer, TurnTrace

BAR = 18
"""Columns of the time line: the whole episode."""
NAME = 24
"""Columns of an arm's name at most."""

SENT, FAILED, WAITED = "█", "▒", "·"

OUTCOMES = {
    "ok": "ok",
    "timeout": "timeout",
    "rate_limited": "rate limited",
    "server_error": "server error",
    "malformed": "malformed",
    "truncated": "truncated",
    "refused": "refused",
    "failed": "failed",
    "unavailable": "not on offer",
    "over_limit": "over the limit",
}

ACTIONS = {
    "continue": "looks on",
    "none": "gives up",
    "vote": "takes a vote",
    "weighted_vote": "takes a weighted vote",
    "adopt": "takes what comes",
    "direct": "answers itself",
    "select": "selects",
}


def episode_lines(trace: EpisodeTrace, width: int = 100) -> list[str]:
    """The episode in lines of at most `width` columns (where no name is longer), the first one its head."""
    names = {call.slot: _cut_front(arm_name(call, trace), NAME) for call in trace.calls}
    column = max(map(len, names.values()), default=0)
    lines = [*_head(trace, width), *_pool(trace, width)]
    clock = bill = 0.0
    for number, turn in enumerate(trace.turns, start=1):
        lines += ["", _turn_line(number, turn)]
        for call in turn.calls:
            lines += _call_lines(call, turn, trace, f"{names[call.slot]:<{column}}", clock, width)
        clock, bill = turn.time_s, turn.cost_usd
        if turn.calls:
            lines.append(_dim(f"{'':6}bill {usd(bill)}, clock {seconds(clock)}"))
    return [*lines, "", *_end(trace, width)]


def usd(amount: float) -> str:
    """USD to a millionth; what is less but not nothing says so."""
    if amount and abs(amount) < 5e-7:
        return "<$0.000001"
    return f"${amount:.6f}" if amount else "$0"


def seconds(amount: float) -> str:
    """Seconds, with a tenth where it counts."""
    return f"{amount:,.0f} s" if amount >= 100 else f"{amount:.1f} s"


def arm_name(call: CallTrace, trace: EpisodeTrace) -> str:
    """The model, with the prompt style where there are several."""
    return call.model if len(trace.prompt_styles) == 1 else f"{call.model}/{call.prompt_style}"


def _head(trace: EpisodeTrace, width: int) -> list[str]:
    left = f"── episode {trace.episode} · {trace.query_id} "
    right = f" {trace.router} · λ {trace.penalty:g} · {trace.profile['name']} · seed {trace.seed} ──"
    if len(left) + len(right) > width:
        rows = [left + "─" * max(width - len(left), 0), right.removesuffix(" ──").strip().rjust(width)]
    else:
        rows = [left + "─" * (width - len(left) - len(right)) + right]
    limits = [
        f"budget {usd(trace.budget_usd)}" if trace.budget_usd is not None else "",
        f"deadline {seconds(trace.deadline_s)}" if trace.deadline_s is not None else "",
        "" if trace.latency_known else "latencies unknown: answers take no time here",
    ]
    said = " · ".join(part for part in (trace.label, trace.domain, *limits) if part)
    question = " ".join(trace.question.split())
    return [*(click.style(row, bold=True) for row in rows), f"Q     {_cut(question, width - 6)}", _dim(f"{'':6}{said}")]


def _pool(trace: EpisodeTrace, width: int) -> list[str]:
    """The models on offer in columns, in the order in which they were shown."""
    there = [offer for offer in trace.pool if offer.on_offer]
    name = max((min(len(offer.model), NAME) for offer in there), default=0)
    cells = [_offer(offer, name) for offer in there]
    across = max(1, (width - 6 + 3) // (max(map(len, cells), default=1) + 3))
    down = -(-len(cells) // across)
    rows = ["   ".join(cells[row::down]) for row in range(down)]
    lines = [(("pool  " if number == 0 else " " * 6) + row).rstrip() for number, row in enumerate(rows)]
    away = [offer.model for offer in trace.pool if not offer.on_offer]
    if away:
        lines += wrap(f"not on offer: {', '.join(away)}", width, initial_indent=" " * 6, subsequent_indent=" " * 8)
    return [*lines, _dim(f"{'':6}USD for 1,000 answers at today's price, × the price card")]


def _offer(offer: Offer, name: int) -> str:
    factor = "" if offer.price is None else f"×{offer.price:.2f}"
    cost = "" if offer.usd_per_1k is None else f"{offer.usd_per_1k:,.3f}"
    return f"{_cut_front(offer.model, NAME):<{name}} {cost:>8} {factor:<6}".rstrip().ljust(name + 16)


def _turn_line(number: int, turn: TurnTrace) -> str:
    does = []
    if turn.calls:
        many = len(turn.calls)
        does.append("one call" if many == 1 else f"{many} calls in parallel")
    unsent = len(turn.asked) + (turn.final == "direct") - len(turn.calls)
    if turn.asked and unsent > 0:
        does.append(f"{unsent} more not carried out: no calls left")
    if turn.final != "continue" or not turn.calls:
        slot = f" {turn.selected + 1}" if turn.selected is not None else ""
        does.append(ACTIONS[turn.final] + slot)
    return click.style(f"turn {number}", bold=True) + f"  {', '.join(does)}"


def _call_lines(
    call: CallTrace, turn: TurnTrace, trace: EpisodeTrace, name: str, start: float, width: int
) -> list[str]:
    first, last = call is turn.calls[0], call is turn.calls[-1]
    mark = "─" if len(turn.calls) == 1 else "┌" if first else "└" if last else "├"
    outcome = OUTCOMES[call.outcome] + (", cached" if call.cached else "")
    colour = "green" if call.outcome == "ok" else "red"
    bar = _bar(call, start, trace.time_s)
    figures = f"  {seconds(call.seconds):>8}  {usd(call.cost_usd):>10}  "
    used = 6 + len(name) + (BAR + 2 if bar else 0) + 2 + 14 + len(figures)
    line = f"  {mark}{call.slot + 1:>2} {name}  {bar}" + ("  " if bar else "")
    line += click.style(f"{outcome:<14}", fg=colour) + figures + _answer(call, max(width - used, 12))
    lines = [line.rstrip()]
    if len(call.attempts) > 1 or (call.attempts and not call.attempts[0].sent):
        told = wrap(" → ".join(_attempt_words(call.attempts)), width - 8, break_on_hyphens=False)
        rail = "│" if len(turn.calls) > 1 and not last else " "
        lines += [f"  {rail}     " + _dim(row) for row in told]
    return lines


def _bar(call: CallTrace, start: float, whole: float) -> str:
    """The call on the episode's time line: waits dotted, failed attempts grey, the last one solid when it succeeded."""
    if whole <= 0:
        return ""
    cells, clock = [" "] * BAR, start
    for attempt in call.attempts:
        good = attempt.outcome == "ok"
        for sign, length in ((WAITED, attempt.waited_s), (SENT if good else FAILED, attempt.seconds)):
            if length > 0:
                begin = min(int(clock / whole * BAR), BAR - 1)
                end = max(begin + 1, round((clock + length) / whole * BAR))
                cells[begin : min(end, BAR)] = sign * (min(end, BAR) - begin)
            clock += length
    colours = {SENT: "green", FAILED: "red", WAITED: "yellow"}
    return "".join(click.style(cell, fg=colours[cell]) if cell != " " else cell for cell in cells)


def _attempt_words(attempts: Iterable[AttemptTrace]) -> Iterable[str]:
    for attempt in attempts:
        if attempt.waited_s:
            yield f"waited {seconds(attempt.waited_s)}"
        if not attempt.sent:
            yield "the deadline came"
            return
        bill = f", {usd(attempt.cost_usd)}" if attempt.outcome != "ok" and attempt.cost_usd else ""
        yield f"{OUTCOMES[attempt.outcome]} {seconds(attempt.seconds)}{bill}"


def _answer(call: CallTrace, width: int) -> str:
    if call.score is None:
        return ""
    return _verdict(call.score, _cut(" ".join((call.answer or "no answer").split()), width - 2))


def _verdict(score: float, text: str) -> str:
    mark, colour = ("✓", "green") if score >= 1 else ("✗", "red") if score <= 0 else (f"{score:.2g}", "yellow")
    return f"{text} " + click.style(mark, fg=colour)


def _end(trace: EpisodeTrace, width: int) -> list[str]:
    end = trace.end
    if end.slot is None:
        how = f"no answer ({ACTIONS[end.how]})" if end.how != "continue" else "no answer: out of turns"
    else:
        how = f"answers with {end.slot + 1}, {arm_name(trace.calls[end.slot], trace)}"
    answer = " ".join((end.answer or "").split())
    said = f": {_cut(answer, max(width - len(how) - 30, 12))}" if answer else ""
    bill = f"bill {usd(trace.cost_usd)}   clock {seconds(trace.time_s)}"
    if end.score is None or end.reward is None:
        return [click.style("end", bold=True) + f"   {how}{said}  not graded", f"{'':6}{bill}"]
    word, colour = (
        ("right", "green") if end.score >= 1 else ("wrong", "red") if end.score <= 0 else ("partly", "yellow")
    )
    spent = trace.penalty * trace.cost_usd / trace.cost_unit_usd
    sums = f"{end.score:g} × (1 − {min(spent, 1.0):.3f})"
    return [
        click.style("end", bold=True) + f"   {how}{said}  " + click.style(word, fg=colour, bold=True),
        f"{'':6}reward {end.reward:.4f} = {sums}   {bill}",
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def _cut_front(name: str, width: int) -> str:
    """A name is told from others by its end: the model, and not who made it."""
    return name if len(name) <= width else "…" + name[1 - width :]


def _dim(text: str) -> str:
    return click.style(text, dim=True)
