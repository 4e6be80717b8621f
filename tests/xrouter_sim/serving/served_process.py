"""A server as people start it: a process, a port, official clients."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openai import OpenAI

ADMIN = "a-key-for-tests-0123456789"


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = ADMIN) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(folder: Path, *arguments: str, key: str | None = ADMIN) -> Iterator[Running]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "XROUTER_SIM_KEY"}
    environment |= {"XROUTER_SIM_KEY": key} if key else {}
    command = [sys.executable, "-m", "xrouter_sim", "serve", *arguments, "--port", str(port)]
    with (
        (folder / "serve.log").open("ab") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        running = Running(process, port)
        try:
            _wait(running, folder / "serve.log")
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(20)


def _wait(running: Running, log: Path) -> None:
    for _ in range(600):
        assert running.process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{running.url}/healthz", timeout=1) as response:
                assert response.status == 200
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(log.read_text())
