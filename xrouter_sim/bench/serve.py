"""What serving costs: beside a direct call to the same provider, and beside a bare FastAPI proxy, in the same run.

A provider on loopback answers at once. The same client asks it directly, through a proxy of twenty lines, and through
`xrouter-sim serve` with a run of the user's: one at a time for latency, many at a time for throughput. Then thousands
at once against a provider with faults, and the ledger is compared with what the provider says that it billed.
"""

import asyncio
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from responses_db import LabError
from xrouter_sim.bench.endpoint import INPUT_TOKENS, OUTPUT_TOKENS, Behaviour, read_ledger, running_endpoint

KEY = "a-key-for-this-bench-only"
INPUT_USD, OUTPUT_USD = 1.0, 4.0
"""Per million tokens."""

CALL_NANO = round((INPUT_TOKENS * INPUT_USD + OUTPUT_TOKENS * OUTPUT_USD) * 1000)
FAULTS = {"429": 0.04, "500": 0.04, "cut": 0.02}


def run(
    folder: Path,
    db: Path | None,
    requests: int,
    concurrency: int,
    storm: int,
    models: Sequence[str],
    prompt_styles: Sequence[str],
) -> dict[str, Any]:
    """Figures by name; `folder` is a run, `storm` how many requests come at once in the trial with faults."""
    figures: dict[str, Any] = {}
    with TemporaryDirectory(prefix="xrouter-sim-") as scratch:
        with running_endpoint(Behaviour()) as provider, _proxy(provider) as proxy:
            file = _providers(Path(scratch), provider, models, prompt_styles)
            with _server(folder, db, file, Path(scratch) / "calm.sqlite", concurrency) as served:
                for url in (provider, proxy, served):
                    asyncio.run(_alone(url, models[0], 50, "warm-up"))
                figures |= _latencies(provider, proxy, served, models[0], requests)
                figures |= _throughputs(proxy, served, models[0], requests, concurrency)
        with running_endpoint(Behaviour(faults=FAULTS, keep_ledger=True, delay_s=0.02)) as provider:
            file, ledger = _providers(Path(scratch), provider, models, prompt_styles), Path(scratch) / "storm.sqlite"
            with _server(folder, db, file, ledger, concurrency) as served:
                figures |= _storm(served, provider, ledger, storm)
    return figures


def _latencies(provider: str, proxy: str, served: str, model: str, requests: int) -> dict[str, float]:
    """In ms, one request at a time: each question asked for the first time, then asked again."""
    told = {
        "direct": asyncio.run(_alone(provider, model, requests, "new")),
        "proxy": asyncio.run(_alone(proxy, model, requests, "new")),
        "served_new_text": asyncio.run(_alone(served, "xrouter-sim", requests, "new")),
        "served_known_text": asyncio.run(_alone(served, "xrouter-sim", requests, "new")),
    }
    figures: dict[str, float] = {}
    for name, seconds in told.items():
        percentiles = statistics.quantiles(seconds, n=100)
        figures[f"{name}_p50_ms"], figures[f"{name}_p99_ms"] = percentiles[49] * 1000, percentiles[98] * 1000
    for name in ("served_new_text", "served_known_text"):
        figures[f"{name}_overhead_p50_ms"] = figures[f"{name}_p50_ms"] - figures["direct_p50_ms"]
        figures[f"{name}_overhead_p99_ms"] = figures[f"{name}_p99_ms"] - figures["direct_p99_ms"]
    return figures


def _throughputs(proxy: str, served: str, model: str, requests: int, concurrency: int) -> dict[str, float]:
    """Requests a second of both in turns; the same questions, so that what is measured is not the embedder."""
    rates: dict[str, list[float]] = {"proxy": [], "served": []}
    for _ in range(3):
        for name, url, asked in (("proxy", proxy, model), ("served", served, "xrouter-sim")):
            began = time.perf_counter()
            asyncio.run(_together(url, asked, requests, concurrency))
            rates[name].append(requests / (time.perf_counter() - began))
    ratio = statistics.median(a / b for a, b in zip(rates["served"], rates["proxy"], strict=True))
    medians = {f"{name}_requests_per_s": statistics.median(values) for name, values in rates.items()}
    return {**medians, "served_vs_proxy": ratio}


def _storm(served: str, provider: str, ledger: Path, requests: int) -> dict[str, Any]:
    """All at once, a tenth of the calls faulty."""
    outcomes = Counter(asyncio.run(_together(served, "xrouter-sim", requests, requests)))
    done = Counter(done for _, done, _, _ in read_ledger(provider))
    with sqlite3.connect(ledger) as con:
        charged = dict(con.execute("SELECT outcome, sum(nano) FROM charges GROUP BY 1").fetchall())
        held = con.execute("SELECT count(*) FROM holds").fetchone()[0]
        (spent,) = con.execute("SELECT sum(spent) FROM keys").fetchone()
    return {
        "storm_requests": requests,
        "storm_answered": outcomes["answer"],
        "storm_errors_well_formed": sum(many for what, many in outcomes.items() if what.startswith("error ")),
        "storm_ill_formed": outcomes["ill-formed"],
        "storm_provider_faults": sum(many for what, many in done.items() if what != "answered"),
        "storm_billed_usd": done["answered"] * CALL_NANO / 1e9,
        "storm_charged_usd": charged.get("ok", 0) / 1e9,
        "storm_lost_usd": (sum(charged.values()) - charged.get("ok", 0)) / 1e9,
        "storm_ledger_adds_up": spent == sum(charged.values()) and held == 0,
    }


# --- the client -------------------------------------------------------------------------------------------------------


async def _alone(url: str, model: str, requests: int, name: str) -> list[float]:
    """Seconds of each request."""
    seconds = []
    async with _session() as session:
        for number in range(requests):
            began = time.perf_counter()
            outcome = await _ask(session, url, model, f"{name}: question number {number}")
            seconds.append(time.perf_counter() - began)
            if outcome != "answer":
                raise LabError(f"{url} gave {outcome} in the bench: see that the run can be served")
    return seconds


async def _together(url: str, model: str, requests: int, concurrency: int) -> list[str]:
    numbers, outcomes = iter(range(requests)), list[str]()

    async def worker(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            outcomes.append(await _ask(session, url, model, f"new: question number {number % 64}"))

    async with _session() as session, asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(worker(session))
    return outcomes


async def _ask(session: aiohttp.ClientSession, url: str, model: str, text: str) -> str:
    body = {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": text}]}
    try:
        async with session.post(f"{url}/chat/completions", json=body) as response:
            told = json.loads(await response.read())
            if response.status == 200:
                return "answer" if told["choices"][0]["message"]["content"] else "ill-formed"
            return f"error {response.status} {told['error']['code']}" if told["error"]["message"] else "ill-formed"
    except (aiohttp.ClientError, ValueError, KeyError):
        return "ill-formed"


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {KEY}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=300)
    ) as session:
        yield session


# --- the servers ------------------------------------------------------------------------------------------------------


def _providers(scratch: Path, url: str, models: Sequence[str], prompt_styles: Sequence[str]) -> Path:
    price = f"price = {{ input = {INPUT_USD}, output = {OUTPUT_USD}, valid_from = 2026-01-01, source = 'bench' }}"
    rows = "".join(f'[[providers.models]]\nname = "{model}"\n{price}\n' for model in models)
    styles = "".join(f'{json.dumps(style)} = ""\n' for style in prompt_styles)
    path = scratch / "providers.toml"
    path.write_text(
        f"max_tokens = 64\n[prompt_styles]\n{styles}[client]\nbackoff_s = 0.02\n"
        f'[[providers]]\nkind = "openai"\nname = "loopback"\nbase_url = "{url}"\nconcurrency = 512\n{rows}'
    )
    return path


@contextmanager
def _server(folder: Path, db: Path | None, file: Path, ledger: Path, at_once: int) -> Iterator[str]:
    more = ["--db", str(db)] if db else []
    options = ["--providers", str(file), "--budget", "1000", "--ledger", str(ledger), "--at-once", str(at_once), *more]
    with _process(["-m", "xrouter_sim", "serve", str(folder), *options]) as url:
        yield url


@contextmanager
def _proxy(provider: str) -> Iterator[str]:
    with _process(["-m", "xrouter_sim.bench.bare_proxy", provider]) as url:
        yield url


@contextmanager
def _process(arguments: list[str]) -> Iterator[str]:
    """A server in a process of its own, given `--port`; the base URL once it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"XROUTER_SIM_KEY": KEY}
    command = [sys.executable, *arguments, "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            while process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            else:
                assert process.stderr is not None
                raise LabError(process.stderr.read().decode(errors="replace").strip().splitlines()[-1])
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)
