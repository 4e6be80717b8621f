"""Where code of a model runs: bubblewrap, with nothing in it but Python.

No network, no home, no environment, no /proc and no /etc; the system and everything else read-only; process, IPC, host
name and user namespaces of its own; a new session; a /tmp in memory; no new processes (see seccomp.py); limits on CPU
time, wall time, memory, files and file size. Nothing here can be skipped: where one of these cannot be had,
`require` refuses in one line, and no code runs.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from responses_db.errors import LabError
from responses_db.graders import seccomp

INSIDE = Path(__file__).parent / "sandboxed"
"""The modules that run in the sandbox. They see each other, under their own names, and nothing else of this project."""
MODULES = "responses_db.graders.sandboxed"

TMP_BYTES = 16 << 20
SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

INSTALL = "install bubblewrap (on Debian and Ubuntu: apt-get install bubblewrap)"


@dataclass(frozen=True)
class Limits:
    """Seconds of CPU and of wall time, bytes of memory (address space) and of one file."""

    cpu_s: int = 10
    wall_s: float = 30.0
    memory: int = 1 << 30
    file_size: int = TMP_BYTES


def require() -> None:
    """LabError where code cannot be run safely, with what to do about it."""
    trouble = why_not()
    if trouble:
        raise LabError(f"code of a model runs in a sandbox only, and there is none here: {trouble}")


@cache
def why_not() -> str | None:
    """Why there is no sandbox on this machine; None when there is one. Tried once in a process."""
    if not sys.platform.startswith("linux"):
        return "bubblewrap needs Linux: grade the store on a Linux machine with `xrouter-sim store regrade`"
    if shutil.which("bwrap") is None:
        return f"no `bwrap` on the PATH: {INSTALL}, then run `xrouter-sim store regrade`"
    if seccomp.program() is None:
        return f"no list of system calls for this kind of processor; there are {', '.join(seccomp.ARCHITECTURES)}"
    process = start("hello", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        said, complaint = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        stop(process)
        return "bubblewrap did not start within 30 s"
    if said.strip() == b"hello":
        return None
    reason = " ".join(complaint.decode("utf-8", "replace").split())[-200:] or f"exit status {process.returncode}"
    return f"bubblewrap cannot start here, as where user namespaces are forbidden ({reason}): use another machine"


def start(
    module: str,
    arguments: Sequence[str] = (),
    *,
    stdin: int,
    stdout: int,
    stderr: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a module of INSIDE in a sandbox of its own. It sets the limits on itself before it runs anything else."""
    filter_program = seccomp.program()
    assert filter_program is not None
    with tempfile.TemporaryFile() as rules:
        rules.write(filter_program)
        rules.seek(0)
        command = [*_bwrap(rules.fileno()), *_python(), "-m", f"{MODULES}.{module}", *arguments]
        return subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=[rules.fileno(), *pass_fds], env={}, cwd="/"
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill a sandbox with all that is in it."""
    process.kill()
    process.wait()


def _bwrap(seccomp_fd: int) -> list[str]:
    bwrap = shutil.which("bwrap")
    assert bwrap is not None
    command = [bwrap, "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--setenv", "PYTHONHASHSEED", "0", "--setenv", "OPENBLAS_NUM_THREADS", "1"]
    # First of all, or it would hide what lies in the real /tmp, such as the environment of a checkout there.
    command += ["--size", str(TMP_BYTES), "--tmpfs", "/tmp"]
    for folder in SYSTEM:
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    for prefix in _python_folders():
        command += ["--ro-bind", prefix, prefix]
    for device in DEVICES:
        command += ["--dev-bind", device, device]
    command += ["--ro-bind", str(INSIDE), f"/inside/{MODULES.replace('.', '/')}", "--setenv", "PYTHONPATH", "/inside"]
    command += ["--remount-ro", "/", "--chdir", "/tmp"]
    return [*command, "--seccomp", str(seccomp_fd), "--"]


def _python_folders() -> list[str]:
    """Where this Python and its packages live, unless the system's folders hold them."""
    folders = dict.fromkeys([sys.base_prefix, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    return [folder for folder in folders if not any(Path(folder).is_relative_to(own) for own in SYSTEM)]


def _python() -> list[str]:
    """The interpreter itself, without `site`: no .pth file of the environment runs, so it starts faster too."""
    return [os.path.realpath(sys.executable), "-s", "-S", "-B"]


def packages() -> list[str]:
    """Folders of installed packages: tests may need numpy."""
    return list(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))
