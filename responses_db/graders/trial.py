"""One trial: a solution and its tests, each in a sandbox of its own, and the verdict."""

import json
import os
import secrets
import subprocess
from dataclasses import asdict, dataclass

from responses_db.graders import sandbox

LONGEST_VERDICT = 10_000


@dataclass(frozen=True)
class Tests:
    """`code` raises where a solution is wrong. `entry_point` is the name that is asked for, `prompt_code` the code that
    the prompt begins with, for solutions that only go on from there."""

    code: str
    entry_point: str | None = None
    prompt_code: str | None = None


@dataclass(frozen=True)
class Outcome:
    passed: bool
    why: str


def run(solution: str, tests: Tests, limits: sandbox.Limits) -> Outcome:
    """Try a solution. LabError where there is no sandbox; RuntimeError when the tests themselves cannot be run."""
    sandbox.require()
    token = secrets.token_hex(16)
    job = {
        "token": token,
        "code": solution,
        "tests": tests.code,
        "entry_point": tests.entry_point,
        "prompt_code": tests.prompt_code,
        "packages": sandbox.packages(),
        "limits": {key: value for key, value in asdict(limits).items() if key != "wall_s"},
    }
    said = _examine(json.dumps(job).encode() + b"\n", limits.wall_s)
    if said is None:
        return Outcome(False, f"no end within {limits.wall_s:g} s")
    try:
        verdict = json.loads(said)
    except ValueError:
        raise RuntimeError("the tests ended without a verdict") from None
    if verdict["token"] != token:
        raise RuntimeError("a verdict with another token: the tests wrote one themselves")
    if verdict["outcome"] == "broken":
        raise RuntimeError(verdict["why"])
    return Outcome(verdict["outcome"] == "passed", verdict["why"])


def _examine(job: bytes, wall_s: float) -> bytes | None:
    """Both sandboxes, joined by two pipes. Returns what the examiner said; None when the time was up."""
    orders_out, orders_in = os.pipe()
    replies_out, replies_in = os.pipe()
    processes = list[subprocess.Popen[bytes]]()
    try:
        processes.append(sandbox.start("solution", stdin=orders_out, stdout=replies_in))
        ends = (orders_in, replies_out)
        examiner = sandbox.start(
            "examiner", [str(end) for end in ends], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=ends
        )
        processes.append(examiner)
        for end in (orders_out, replies_in):
            os.close(end)
        orders_out = replies_in = -1
        said, _ = examiner.communicate(job, timeout=wall_s)
        return said[:LONGEST_VERDICT]
    except subprocess.TimeoutExpired:
        return None
    finally:
        for process in processes:
            sandbox.stop(process)
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()
        for end in (orders_out, orders_in, replies_out, replies_in):
            if end >= 0:
                os.close(end)
