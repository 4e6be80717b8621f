"""What `store coverage`, `store compare` and `store verify` print, as lines of aligned text."""

import shutil
from typing import TYPE_CHECKING, Any

from xrouter_sim.cli.store_text import blocks, table_of
from xrouter_sim.evaluation.statistics import Figure, signed

if TYPE_CHECKING:
    from responses_db.verify import Finding

MARKS = {"failed": "f", "truncated": "t", "refused": "r", "ungraded": "u"}


def coverage_lines(facts: dict[str, Any]) -> list[str]:
    """The matrix, in blocks as wide as the terminal, below the totals."""
    if not facts["arms"]:
        return [f"{facts['path']}: no models and no responses yet"]
    many = len({arm["prompt_style"] for arm in facts["arms"]}) > 1
    names = [arm["model_id"] + (f" / {arm['prompt_style']}" if many else "") for arm in facts["arms"]]
    columns = [
        ["", "queries", *names],
        ["all", f"{facts['queries']:,}", *(_covered(arm["all"]) for arm in facts["arms"])],
    ]
    for place, column in enumerate(facts["columns"]):
        shares = [_covered(arm["parts"][place]) for arm in facts["arms"]]
        columns.append([column["name"], f"{column['queries']:,}", *shares])
    marks = ", ".join(f"{mark} {name}" for name, mark in MARKS.items() if facts[name])
    share = "none possible" if facts["share"] is None else f"{facts['share']:.1%}"
    return [
        f"{facts['path']}: {facts['cells_filled']:,} of {facts['cells_possible']:,} cells filled, {share}",
        f"{facts['complete_queries']:,} of {facts['queries']:,} queries have every response that a replay needs",
        *blocks(columns),
        *([f"counts of responses: {marks}"] if marks else []),
    ]


def _covered(part: dict[str, Any]) -> str:
    """`98.5% 3f 2t`; 100% and 0% only where it is all or nothing."""
    if not part["queries"]:
        return "–"
    percent = 100 * part["filled"] / part["queries"]
    if 0 < part["filled"] < part["queries"]:
        percent = min(max(percent, 0.1), 99.9)
    share = f"{percent:.1f}%" if percent % 100 else f"{percent:.0f}%"
    return " ".join([share, *(f"{part[name]:,}{mark}" for name, mark in MARKS.items() if part[name])])


def compare_lines(facts: dict[str, Any]) -> list[str]:
    """The 2×2 table, the table by domain, and examples."""
    a, b, overall = facts["a"], facts["b"], facts["overall"]
    square = [
        [f"of {overall['pairs']:,}", f"{b} right", f"{b} wrong"],
        [f"{a} right", f"{overall['both_right']:,}", f"{overall['only_a']:,}"],
        [f"{a} wrong", f"{overall['only_b']:,}", f"{overall['neither']:,}"],
    ]
    head = [
        "",
        "pairs",
        "both",
        "only A",
        "only B",
        "neither",
        "score A",
        "score B",
        "A − B  [95%]",
        "USD/1k A",
        "USD/1k B",
    ]
    rows = [_compared(part["domain"], part) for part in facts["domains"]]
    return [
        f"A: {a}",
        f"B: {b}",
        "",
        *table_of(square),
        "",
        *table_of([head, _compared("all", overall), *(rows if len(rows) > 1 else [])]),
        "paired bootstrap over queries; USD/1k: mean cost of a thousand answers, ? where some are unknown",
        *_counted_wrong(facts),
        *_example_lines(f"only {a} is right", facts["only_a"]),
        *_example_lines(f"only {b} is right", facts["only_b"]),
    ]


def _compared(name: str, part: dict[str, Any]) -> list[str]:
    difference = Figure(**part["difference"])
    interval = f"[{signed(difference.low)}, {signed(difference.high)}]"
    counts = [f"{part[count]:,}" for count in ("pairs", "both_right", "only_a", "only_b", "neither")]
    costs = ["?" if part[cost] is None else f"{1000 * part[cost]:.3f}" for cost in ("cost_usd_a", "cost_usd_b")]
    scores = [f"{part['score_a']:.3f}", f"{part['score_b']:.3f}"]
    return [name, *counts, *scores, f"{signed(difference.value)} {interval}", *costs]


def _counted_wrong(facts: dict[str, Any]) -> list[str]:
    return [
        f"{kind} responses count as wrong: {facts[kind]['a']:,} of A, {facts[kind]['b']:,} of B"
        for kind in ("failed", "ungraded")
        if any(facts[kind].values())
    ]


def _example_lines(title: str, examples: list[dict[str, Any]]) -> list[str]:
    lines = ["", f"{title}, for example:"] if examples else []
    width = shutil.get_terminal_size((100, 24)).columns
    for example in examples:
        lines.append(f"  {example['query_id']} ({example['domain']}, {example['prompt_style']})")
        facts = {"question": example["question"], "reference": example["reference"]}
        facts |= {side.upper(): example[f"answer_{side}"] or example[f"text_{side}"] for side in "ab"}
        lines += [_cut(f"    {name}: {_flat(value)}", width) for name, value in facts.items() if value is not None]
    return lines


def _flat(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def verify_lines(path: str, findings: "list[Finding]", content_hash: str | None) -> list[str]:
    """One line a finding, the wrong first, with some keys below each."""
    lines = [f"{path}: content hash {content_hash or 'not computed'}, computed anew"]
    for finding in findings:
        lines.append(f"{'note ' if finding.note else 'WRONG'}  {finding.count:,} {finding.what}  ({finding.check})")
        more = finding.count - len(finding.examples)
        lines.append(f"       {', '.join(finding.examples)}{f', and {more:,} more' if more > 0 else ''}")
    wrong = sum(not finding.note for finding in findings)
    verdict = f"{wrong} things are wrong" if wrong > 1 else "1 thing is wrong" if wrong else "nothing is wrong"
    return [*lines, verdict + (f", {len(findings) - wrong} to note" if len(findings) > wrong else "")]
