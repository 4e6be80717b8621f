"""`xrouter-sim store coverage | compare | verify | upgrade`: what is covered, where models differ, what is wrong."""

import json
from pathlib import Path

import click

from xrouter_sim.cli.options import DB, JSON
from xrouter_sim.cli.store import store_group


@store_group.command("coverage")
@DB
@click.option("--by", type=click.Choice(["domain", "split", "dataset"]), default="domain", show_default=True)
@JSON
def store_coverage(db: Path, by: str, as_json: bool) -> None:
    """Show which cells of a store are filled: every model and prompt style against domains.

    A cell is a (query, model, prompt style); it is filled when an answer that did not fail is there. Beside the share
    stand the numbers of failed (f), truncated (t), refused (r) and not yet graded (u) responses, where there are any.

    \b
    Examples:
      xrouter-sim store coverage
      xrouter-sim store coverage --by split --json
    """
    from responses_db import ResponseStore
    from responses_db.coverage import coverage

    with ResponseStore(db) as store:
        facts = coverage(store, by)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        from xrouter_sim.cli.store_views_text import coverage_lines

        click.echo("\n".join(coverage_lines(facts)))


@store_group.command("compare")
@click.argument("model_a")
@click.argument("model_b")
@DB
@click.option("--style", help="One prompt style  [default: all that both have]")
@click.option("--show", type=click.IntRange(min=0), default=3, show_default=True, help="Examples of each side's wins.")
@JSON
def store_compare(model_a: str, model_b: str, db: Path, style: str | None, show: int, as_json: bool) -> None:
    """Show where two models differ, on the queries that both have a response to.

    How often both, one or neither is right (score at least 0.5), overall and by domain, with the mean score and cost of
    each, the difference A − B with its paired 95% interval (bootstrap over queries), and queries that one of them wins.
    MODEL/STYLE in place of a model compares two prompt styles. Failed and ungraded responses count as wrong.

    \b
    Examples:
      xrouter-sim store compare sim-gpt-5 sim-kimi-k2
      xrouter-sim store compare sim-gpt-5/cot sim-gpt-5/plain --show 5
    """
    from responses_db import ResponseStore
    from responses_db.compare import pairs
    from xrouter_sim.evaluation.comparison import compare

    with ResponseStore(db) as store:
        facts = compare(pairs(store, model_a, model_b, style), model_a, model_b, show)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        from xrouter_sim.cli.store_views_text import compare_lines

        click.echo("\n".join(compare_lines(facts)))


@store_group.command("verify")
@DB
@click.option("--strict", is_flag=True, help="Exit 1 for notes as well.")
@JSON
@click.pass_context
def store_verify(ctx: click.Context, db: Path, strict: bool, as_json: bool) -> None:
    """Look for what must not be in a store, and exit 1 when something is wrong.

    \b
    wrong   broken rules and keys, orphans (scores without response, responses without query, model or run), response
            ids that are not their cell's, stale counts, JSON that is none, rows that cannot be read, a wrong noted hash
    note    what may be meant so: unknown graders, ungraded responses, unknown costs, unfinished runs, a clock set back

    \b
    Examples:
      xrouter-sim store verify
      xrouter-sim store verify --db data/merged.duckdb --json
    """
    from responses_db import ResponseStore
    from responses_db.verify import verify

    with ResponseStore(db) as store:
        findings = verify(store)
        unreadable = any(finding.check == "unreadable" for finding in findings)
        content_hash = None if unreadable else store.compute_hash()
    wrong = sum(not finding.note for finding in findings)
    if as_json:
        listed = [finding.to_json() for finding in findings]
        click.echo(json.dumps({"path": str(db), "ok": not wrong, "content_hash": content_hash, "findings": listed}))
    else:
        from xrouter_sim.cli.store_views_text import verify_lines

        click.echo("\n".join(verify_lines(str(db), findings, content_hash)))
    if wrong or (strict and findings):
        ctx.exit(1)


@store_group.command("upgrade")
@DB
def store_upgrade(db: Path) -> None:
    """Bring a store of an older version of this program up to date, in one transaction. Nothing is lost.

    Any harvest or import does the same. Texts are read once, and the file may grow by its own size meanwhile.

    \b
    Example:
      xrouter-sim store upgrade --db data/responses.duckdb
    """
    from responses_db import LabError, ResponseStore
    from responses_db.store import MIGRATIONS

    if not db.exists():
        raise LabError(f"no store at {db}: there is nothing to upgrade")
    ResponseStore(db, write=True).close()
    click.echo(f"{db} has schema version {len(MIGRATIONS)}, that of this program")
