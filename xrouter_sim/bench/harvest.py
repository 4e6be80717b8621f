"""How fast a harvest is beside a bare HTTP client: the same requests to the same server, in the same run."""

import asyncio
import time
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import aiohttp

from responses_db.cells import all_cells
from responses_db.harvest_config import HarvestConfig
from responses_db.harvester import harvest
from responses_db.providers.base import Endpoint, Model, Price
from responses_db.providers.openai import OpenAIProvider
from responses_db.query import Query
from xrouter_sim.bench.endpoint import Behaviour, running_endpoint

DELAY_S = 0.05
PRICE = Price(1.0, 4.0, None, date(2026, 1, 1), "the bench")


def run(calls: int, concurrency: int, rounds: int) -> dict[str, object]:
    """`vs_bare_client`: requests a second of the whole harvest over those of a bare aiohttp client, median of rounds.

    The two take turns, so that whatever else the machine does meets both.
    """
    bare, full = list[float](), list[float]()
    with running_endpoint(Behaviour(delay_s=DELAY_S)) as url:
        config = bench_config(url, calls, concurrency)
        bodies = [cell.request() for cell in all_cells(config, None)]
        asyncio.run(_ask_bare(f"{url}/chat/completions", bodies[: 4 * concurrency], concurrency))  # warm up
        for _ in range(rounds):
            bare.append(_bare_rate(url, bodies, concurrency))
            full.append(_full_rate(config))
    ratios = [a / b for a, b in zip(full, bare, strict=True)]
    return {
        "vs_bare_client": round(median(ratios), 3),
        "vs_bare_client_by_round": [round(ratio, 3) for ratio in ratios],
        "harvest_requests_s": round(median(full), 1),
        "bare_client_requests_s": round(median(bare), 1),
        "calls": calls,
        "concurrency": concurrency,
    }


def bench_config(base_url: str, calls: int, concurrency: int) -> HarvestConfig:
    """`calls` numeric questions to one model at `base_url`."""
    queries = [_query(number) for number in range(calls)]
    endpoint = Endpoint(base_url, timeout_s=30.0, retries=2)
    provider = OpenAIProvider("bench", endpoint, [Model("bench-1", "bench-1", PRICE)], {"temperature": 0}, concurrency)
    styles = {"plain": "End with a line 'Answer: …'."}
    return HarvestConfig(queries, styles, [provider], samples=1, max_tokens=256, raw={})


def _query(number: int) -> Query:
    question = f"What is {number} + {42 - number}? Think of the two numbers, add them, and say what you get."
    message = {"role": "user", "content": question}
    return Query(f"bench/{number}", "bench", "sums", [message], question, "42", "numeric", "train")


def _bare_rate(url: str, bodies: list[bytes], concurrency: int) -> float:
    began = time.perf_counter()
    asyncio.run(_ask_bare(f"{url}/chat/completions", bodies, concurrency))
    return len(bodies) / (time.perf_counter() - began)


async def _ask_bare(url: str, bodies: list[bytes], concurrency: int) -> None:
    """Post every body and read every answer: no parsing, no keeping, no retries."""
    turns = iter(bodies)
    headers = {"Content-Type": "application/json"}

    async def work(session: aiohttp.ClientSession) -> None:
        for body in turns:
            async with session.post(url, data=body) as response:
                await response.read()

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        await asyncio.gather(*(work(session) for _ in range(concurrency)))


def _full_rate(config: HarvestConfig) -> float:
    """From a config to a store with every answer graded, with its cache; on fresh files."""
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = harvest(config, Path(folder, "store.duckdb"), Path(folder, "cache"), None, lambda *progress: None)
        seconds = time.perf_counter() - began
    if done.tally.stored != len(config.queries) or done.tally.failed or done.grading.ungraded:
        raise RuntimeError(f"the harvest is not whole: {done}")
    return len(config.queries) / seconds
