"""`xrouter-sim store regrade`: grades for what lacks one, by the current version of its grader."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from responses_db.errors import LabError
from xrouter_sim.cli.options import DB, JSON
from xrouter_sim.cli.store import store_group

if TYPE_CHECKING:
    from responses_db import ResponseStore
    from responses_db.judging import Judge
    from responses_db.regrade import Regraded, Scope


@store_group.command("regrade", short_help="Grade what has no grade of its grader's current version.")
@DB
@click.option("--grader", "name", metavar="NAME", help="Only this grader  [default: every query's own].")
@click.option("--dataset", metavar="NAME", help="Only queries of this dataset.")
@click.option("--domain", metavar="NAME", help="Only queries of this domain.")
@click.option("--beside", is_flag=True, help="Also queries whose own grader is another; these grades do not count.")
@click.option("--set-grader", is_flag=True, help="Let NAME be the grader that counts, once all could be graded.")
@click.option("--judge", "judge_file", type=click.Path(path_type=Path), metavar="FILE", help="The judge's TOML file.")
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Raw verdicts of judges.  [default: `cache` by the store]"
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N responses of each grader.")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Threads for `math` and `code`  [default: cores]."
)
@JSON
@click.option("--quiet", is_flag=True, help="No progress bar.")
def store_regrade(db: Path, as_json: bool, quiet: bool, judge_file: Path | None, **options: Any) -> None:
    """Grade the responses that have no grade of their grader's current version, and say what changed.

    Nothing is harvested again, and no grade is lost: a grader's versions stand beside each other, and the latest
    counts. Failed calls are not graded. What a grader cannot grade stays ungraded, which is no zero. Every 500
    responses are committed: after a stop, the same command goes on.

    --beside tries a grader on queries of another and says how often the two agree; nothing that counts changes.
    --set-grader makes it the one that counts, for a dataset or a domain, if every response could be graded. The old
    grades stay, so the same command with the old name takes it back. A harvest config that names the old grader is
    then refused for this store: change it there too.

    `code` runs programs in a sandbox of bubblewrap, and refuses without one. `judge` needs a FILE, and costs money:

    \b
      version = 1                        # raise it when anything below changes
      rubric = "10: correct and complete. 5: correct, gaps. 0: wrong."
      max_tokens = 2048
      [[providers]]                      # as in a harvest config, with one model
      kind = "openai"
      …

    \b
    Examples:
      xrouter-sim store regrade
      xrouter-sim store regrade --grader math --dataset gsm8k --beside --json
      xrouter-sim store regrade --grader code --dataset mbpp --set-grader
      xrouter-sim store regrade --grader judge --judge judge.toml --limit 20
    """
    from responses_db import ResponseStore
    from responses_db.judging import read_judge

    asked = _Asked(**options)
    asked.check(judge_file)
    judge = read_judge(judge_file) if judge_file else None
    ResponseStore(db).close()  # there must be a store: this does not start one
    with ResponseStore(db, write=True) as store:
        done = [_grade(store, scope, judge, asked, quiet) for scope in asked.scopes(store)]
        ungraded = sum(one.grading.ungraded for one in done)
        changed = _make_own(store, asked, done) if asked.set_grader and not ungraded else 0
        left = _left(store, asked, done)
    facts = {"graders": [one.facts() for one in done], "queries_set": changed, "not_graded_here": left}
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else _words(done, changed, left, asked, db))
    if ungraded:
        first = next(one.grading.first_error for one in done if one.grading.first_error)
        kept = f"; {asked.name} was not made the grader that counts" if asked.set_grader else ""
        raise LabError(f"{ungraded:,} responses could not be graded and stay so{kept}; first {first}")


@dataclass(frozen=True)
class _Asked:
    """The command's options."""

    name: str | None
    dataset: str | None
    domain: str | None
    beside: bool
    set_grader: bool
    cache: Path | None
    limit: int | None
    jobs: int | None

    def check(self, judge_file: Path | None) -> None:
        from responses_db.graders import GRADERS

        if self.name is not None and self.name not in GRADERS:
            raise click.UsageError(f"no grader {self.name!r}; there are {', '.join(GRADERS)}")
        if (self.name == "judge") != (judge_file is not None):
            raise click.UsageError("a judge needs both: --grader judge --judge FILE.toml")
        if (self.beside or self.set_grader) and self.name is None:
            raise click.UsageError("--beside and --set-grader need --grader NAME: which one?")
        if self.set_grader and (self.limit or (self.dataset is None and self.domain is None)):
            raise click.UsageError("--set-grader needs --dataset or --domain, and no --limit: for which queries?")

    def scopes(self, store: "ResponseStore") -> "list[Scope]":
        """What each grader is to grade: the one that was named, or all that queries name, judges left out."""
        from responses_db.graders import GRADERS, JUDGE
        from responses_db.regrade import Scope

        own = store.frame("SELECT DISTINCT grader FROM queries ORDER BY grader")["grader"].to_list()
        names = [self.name] if self.name else [name for name in own if name in GRADERS and name != JUDGE]
        return [Scope(name, self.dataset, self.domain, self.beside or self.set_grader) for name in names]


def _grade(store: "ResponseStore", scope: "Scope", judge: "Judge | None", asked: _Asked, quiet: bool) -> "Regraded":
    """One grader's work as a run of the store, with a progress bar; no run where there is nothing to do."""
    from tqdm import tqdm

    from responses_db.graders import GRADERS
    from responses_db.judging import check_identity, judge_config, judge_with
    from responses_db.regrade import Regraded, pending, regrade_with

    if judge:
        check_identity(store, judge)
    version = judge.version if judge else GRADERS[scope.grader].version
    if not pending(store, scope, version):
        return Regraded(scope.grader, version, 0)
    config = judge_config(judge) if judge else {"grader": scope.grader, "version": version}
    run_id = store.begin_run("regrade", config | {"dataset": scope.dataset, "domain": scope.domain})
    with tqdm(unit=" responses", desc=scope.grader, disable=quiet, leave=False, delay=0.5) as bar:

        def progress(new: int, total: int) -> None:
            bar.total = total
            bar.update(new)

        if judge:
            cache = asked.cache or store.path.parent / "cache"
            done: Regraded = judge_with(store, judge, scope, cache, progress, asked.limit)
        else:
            done = regrade_with(store, scope, asked.jobs, progress, asked.limit)
    store.end_run(run_id, done.facts())
    return done


def _make_own(store: "ResponseStore", asked: _Asked, done: "list[Regraded]") -> int:
    from responses_db.regrade import Scope, set_grader

    return set_grader(store, Scope(done[0].grader, asked.dataset, asked.domain, beside=True))


def _left(store: "ResponseStore", asked: _Asked, done: "list[Regraded]") -> dict[str, int]:
    """Responses whose query names a grader that was not asked here; none where one was named."""
    if asked.name:
        return {}
    sql = """
    SELECT q.grader, count(*) FROM responses r JOIN queries q USING (query_id)
    WHERE r.status <> 'failed' GROUP BY ALL ORDER BY ALL
    """
    graders = {one.grader for one in done}
    return {name: count for name, count in store.frame(sql).iter_rows() if name not in graders}


def _words(done: "list[Regraded]", changed: int, left: dict[str, int], asked: _Asked, db: Path) -> str:
    lines = [line for one in done for line in _lines(one)]
    if changed:
        lines.append(f"{changed:,} queries count by {asked.name} now; their old grades are kept")
    for name, count in left.items():
        why = {
            "imported": "their scores came with the data",
            "judge": "they await a judge: --grader judge --judge FILE.toml",
        }.get(name, f"this program knows no grader {name!r}")
        lines.append(f"{count:,} responses are not graded here: {why}")
    return "\n".join(lines or [f"{db} has nothing to grade"])


def _lines(one: "Regraded") -> list[str]:
    title = f"{one.grader} (version {one.version})"
    if not one.pending:
        return [f"{title}: nothing new, every response has its grade"]
    ungraded = f", {one.grading.ungraded:,} could not be graded" if one.grading.ungraded else ""
    lines = [f"{title}: {one.grading.graded:,} responses graded{ungraded}"]
    known = {kind: count for kind, count in one.changed.items() if kind != "new"}
    if sum(known.values()):
        lines.append(
            f"  against the version before: {known['same']:,} the same, {known['up']:,} from wrong to right, "
            f"{known['down']:,} from right to wrong, {known['shifted']:,} moved without crossing 0.5"
        )
        lines += [f"    {flip['before']:g} → {flip['now']:g}  {flip['response_id']}" for flip in one.examples]
    if both := one.agrees + one.differs:
        lines.append(f"  against the grader that counts: {one.agrees:,} of {both:,} agree ({one.agrees / both:.1%})")
    facts = one.facts()
    if "cost_usd" in facts:
        unpriced = f" and {facts['unpriced']:,} unpriced" if facts["unpriced"] else ""
        lines.append(
            f"  {facts['asked']:,} verdicts asked for (${facts['cost_usd']:.4f}{unpriced}), "
            f"{facts['cached']:,} from the cache"
        )
    return lines
