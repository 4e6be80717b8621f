"""The server as a process: where it listens, which keys it takes, and clients that never finish their headers."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from responses_db import LabError
from xrouter_sim.engine.profile import Profile
from xrouter_sim.evaluation.bench import world_of
from xrouter_sim.serving.app import Endpoint, Limits, make_app
from xrouter_sim.serving.ledger import NO_KEY, SHORTEST_KEY, Key, Ledger
from xrouter_sim.serving.live import open_live, read_providers_file
from xrouter_sim.serving.loaded import Loaded, load_run
from xrouter_sim.serving.served import Backend
from xrouter_sim.serving.stored import StoredBackend

KEY_VARIABLE = "XROUTER_SIM_KEY"
HEADERS_S = 10.0
"""Seconds from connection to complete headers."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What `xrouter-sim serve` was told."""

    run: Path
    db: Path | None
    providers: Path | None
    """None: answers come from the store."""
    host: str
    port: int
    ledger: Path
    budget_usd: float | None
    key_file: Path | None
    penalty: float
    profile: str = "calm"
    limits: Limits = field(default_factory=Limits)


class Patient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, less patient: a connection whose first headers do not come in time is closed."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._first = self.loop.call_later(HEADERS_S, self._close_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._first.cancel()
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def serve(settings: Settings, say: Say) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered first. LabError for what the user can mend."""
    given = _given_key(settings.key_file)
    if settings.providers is not None and settings.budget_usd is None:
        raise LabError("live calls cost money: give --budget USD, the most that all keys together may ever spend")
    file = None if settings.providers is None else read_providers_file(settings.providers)
    with Ledger(settings.ledger, serving=True, cap_usd=settings.budget_usd) as ledger:
        if given:
            ledger.given_key(KEY_VARIABLE, given)
        keyed = any(key.name != NO_KEY and not key.revoked for key in ledger.all_keys())
        check_host(settings.host, keyed)
        nobody = None if keyed else ledger.given_key(NO_KEY, None)
        if ledger.lost_usd:
            say(
                f"${ledger.lost_usd:.6f} was held when the last server was killed: charged in full, as it may be billed"
            )
        say(f"loading {settings.run}")
        loaded = load_run(settings.run, settings.db)

        @asynccontextmanager
        async def backend() -> AsyncIterator[Backend]:
            if file is None:
                yield StoredBackend(loaded, world_of(loaded.replay, settings.profile), settings.penalty)
            else:
                async with open_live(loaded, file, ledger, settings.penalty) as live:
                    yield live

        asyncio.run(_serve(settings, backend, ledger, nobody, lambda: _welcome(settings, loaded, keyed, say)))


async def _serve(
    settings: Settings, backend: Callable[[], Any], ledger: Ledger, nobody: Key | None, ready: Callable[[], None]
) -> None:
    async with backend() as answers:
        app = make_app(Endpoint(answers, ledger, settings.limits, open_to_all=nobody))
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=Patient,
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            backlog=4096,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=30,
        )
        logging.getLogger("xrouter_sim.serving").setLevel(logging.INFO)
        server = uvicorn.Server(config)
        started = asyncio.create_task(_when_started(server, ready))
        await server.serve()
        started.cancel()


async def _when_started(server: uvicorn.Server, ready: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.02)
    ready()


def check_host(host: str, keyed: bool) -> None:
    """LabError for an address that others can reach while no key is asked for."""
    try:
        local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and not keyed:
        raise LabError(
            f"--host {host} can be reached from elsewhere, and no key is set: put one in {KEY_VARIABLE}, give "
            "--key-file, or make one with `xrouter-sim keys add NAME`"
        )


def _given_key(file: Path | None) -> str | None:
    """The key from a file or the environment. LabError for one that can be guessed, or that others can read."""
    if file is not None and file.stat().st_mode & 0o077:
        raise LabError(f"{file} can be read by others: chmod 600 {file}")
    key = file.read_text().strip() if file is not None else os.environ.get(KEY_VARIABLE, "").strip()
    where = str(file) if file is not None else KEY_VARIABLE
    if file is None and not key:
        return None
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise LabError(f"{where}: a key has at least {SHORTEST_KEY} letters, digits and signs, without blanks")
    return key


def _welcome(settings: Settings, loaded: Loaded, keyed: bool, say: Say) -> None:
    provenance = " and ".join(f"{kind.upper()}" for kind in loaded.replay.store["provenance"])
    whence = (
        f"answers from {loaded.replay.store['path']} ({provenance}), world {Profile.load(settings.profile).name}"
        if settings.providers is None
        else f"answers from {settings.providers}, at most ${settings.budget_usd:g} in all"
    )
    say(f"{loaded.router.name}: {whence}; {'keys are asked for' if keyed else 'no key is asked for'}")
    say(f"serving on http://{settings.host}:{settings.port}/v1")
