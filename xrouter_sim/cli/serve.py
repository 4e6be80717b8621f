"""`xrouter-sim serve` and `xrouter-sim keys`: a router behind an OpenAI-compatible endpoint, and who may use it."""

import json
from pathlib import Path

import click

from xrouter_sim.cli.options import JSON

LEDGER = click.option(
    "--ledger",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("data/ledger.sqlite"),
    show_default=True,
    help="Keys, budgets and what was spent.",
)


@click.command("serve", short_help="Serve a trained router as an OpenAI-compatible endpoint.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--providers", type=click.Path(path_type=Path), help="providers.toml: who answers, live.")
@click.option("--replay", type=click.Path(path_type=Path), metavar="DB", help="Answer from this store: no provider.")
@click.option("--db", type=click.Path(path_type=Path), help="The store of the training, where it has moved.")
@click.option("--profile", default="calm", show_default=True, help="With --replay: the world's failures and prices.")
@click.option("--penalty", "-p", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="λ")
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Most that all keys together may spend.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8484, show_default=True)
@LEDGER
@click.option("--key-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Holds a key.")
@click.option("--max-body", type=click.IntRange(min=1024), default=1 << 20, show_default=True, metavar="BYTES")
@click.option("--max-seconds", type=click.FloatRange(min=0.1), default=300.0, show_default=True, metavar="S")
@click.option("--at-once", type=click.IntRange(min=1), default=256, show_default=True, metavar="N")
@click.option("--verbose", is_flag=True, help="A line a request on stderr; never prompts, answers or keys.")
def serve(
    run: Path,
    providers: Path | None,
    replay: Path | None,
    db: Path | None,
    profile: str,
    penalty: float,
    budget: float | None,
    host: str,
    port: int,
    ledger: Path,
    key_file: Path | None,
    max_body: int,
    max_seconds: float,
    at_once: int,
    verbose: bool,
) -> None:
    """Serve the router of RUN, a folder that `xrouter-sim train` wrote, to any OpenAI client.

    With --providers it calls live models within --budget, which is kept across restarts; with --replay it answers the
    questions of a store from the store, always the same, for tests. The key is read from XROUTER_SIM_KEY or --key-file;
    `xrouter-sim keys add` makes more, each with a budget and a rate. Without a key it serves this machine alone.

    A request may ask for its own λ, pool or budget: model "xrouter-sim/lambda=2,pool=a+b,budget=0.01", or the headers
    X-Xrouter-Lambda, -Pool, -Budget-Usd, -Deadline-S, -Domain.

    \b
    Examples:
      xrouter-sim serve runs/demo --replay data/responses.duckdb
      xrouter-sim serve runs/demo --providers providers.toml --budget 5
    """
    import logging

    from responses_db import LabError

    if (providers is None) == (replay is None):
        raise LabError("who answers? give --providers providers.toml (live) or --replay DB (from a store)")
    if replay is not None and db not in (None, replay):
        raise LabError("--replay names the store already: leave --db out")
    try:
        from xrouter_sim.serving.app import Limits
        from xrouter_sim.serving.server import Settings
        from xrouter_sim.serving.server import serve as start
    except ModuleNotFoundError as error:
        raise LabError(f"{error.name} is not installed: pip install 'xrouter-sim[serve]'") from error
    if verbose:
        logging.basicConfig(format="%(asctime)s %(message)s")
    settings = Settings(
        run=run,
        db=replay or db,
        providers=providers,
        host=host,
        port=port,
        ledger=ledger,
        budget_usd=budget,
        key_file=key_file,
        penalty=penalty,
        profile=profile,
        limits=Limits(body_bytes=max_body, request_s=max_seconds, at_once=at_once),
    )
    start(settings, lambda line: click.echo(line, err=True))


@click.group("keys")
def keys_group() -> None:
    """Keys for `xrouter-sim serve`: who may ask, how often, and what it may cost."""


@keys_group.command("add")
@click.argument("name")
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Most that it may ever spend.")
@click.option("--per-minute", type=click.IntRange(min=1), metavar="N", help="Requests in any minute.")
@LEDGER
def keys_add(name: str, budget: float | None, per_minute: int | None, ledger: Path) -> None:
    """Make a key and print it, this once: the ledger keeps only its hash."""
    from xrouter_sim.serving.ledger import Ledger

    with Ledger(ledger) as book:
        click.echo(book.add_key(name, budget, per_minute))


@keys_group.command("revoke")
@click.argument("name")
@LEDGER
def keys_revoke(name: str, ledger: Path) -> None:
    """A key opens nothing any more, within a second."""
    from xrouter_sim.serving.ledger import Ledger

    with Ledger(ledger) as book:
        book.revoke(name)


@keys_group.command("list")
@LEDGER
@JSON
def keys_list(ledger: Path, as_json: bool) -> None:
    """Keys with what they spent, in USD."""
    from xrouter_sim.serving.ledger import Ledger

    with Ledger(ledger) as book:
        keys = book.all_keys()
    if as_json:
        names = ("name", "budget_usd", "per_minute", "spent_usd", "held_usd", "revoked")
        click.echo(json.dumps([{name: getattr(key, name) for name in names} for key in keys]))
        return
    for key in keys:
        budget = "no limit" if key.budget_usd is None else f"${key.budget_usd:.6f}"
        rate = "" if key.per_minute is None else f", {key.per_minute} a minute"
        click.echo(f"{key.name:<24} ${key.spent_usd:.6f} of {budget}{rate}{', revoked' if key.revoked else ''}")
