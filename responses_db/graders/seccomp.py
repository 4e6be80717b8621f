"""A seccomp filter for code of a model: no new processes, no sockets, no memory outside the process's own limit.

Limits on memory and CPU time are per process, and the limit on processes does not bind root; a fork is the way around
all three, so it is refused by the kernel itself. Threads may be made. Anything else that is refused here has no place
in the answer to a programming task and is a known way to hold memory that no limit counts, or out of a sandbox.
"""

import platform
import struct

EPERM, ENOSYS = 1, 38
CLONE_THREAD = 0x00010000
X32_BIT = 0x40000000

# linux/bpf_common.h, linux/seccomp.h
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT = 0, 4, 16
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
"""Answered with ENOSYS, so that the C library falls back to clone, whose flags a filter can read."""

REFUSED = {
    # fork, vfork; socket; ptrace; unshare, setns, mount, pivot_root, chroot; shmget, msgget, semget, memfd_create;
    # bpf, perf_event_open, userfaultfd, io_uring_setup, keyctl, add_key, process_vm_readv, process_vm_writev
    "x86_64": (57, 58, 41, 101, 272, 308, 165, 155, 161, 29, 68, 64, 319, 321, 298, 323, 425, 250, 248, 310, 311),
    "aarch64": (198, 117, 97, 268, 40, 41, 51, 194, 186, 190, 279, 280, 241, 282, 425, 219, 217, 270, 271),
}


def program(machine: str | None = None) -> bytes | None:
    """The filter for this machine (or `machine`) in the kernel's form; None where its system calls are not known."""
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        return None
    refuse = _op(RETURN, REFUSE | EPERM)
    body = [
        _op(LOAD, NUMBER_AT),
        *([_op(JUMP_IF_AT_LEAST, X32_BIT, 0, 1), _op(RETURN, KILL)] if machine == "x86_64" else []),
        _op(JUMP_IF_EQUAL, CLONE3, 0, 1),
        _op(RETURN, REFUSE | ENOSYS),
    ]
    for number in REFUSED[machine]:
        body += [_op(JUMP_IF_EQUAL, number, 0, 1), refuse]
    body += [
        _op(JUMP_IF_EQUAL, CLONE[machine], 0, 3),
        _op(LOAD, FIRST_ARGUMENT_AT),
        _op(JUMP_IF_ANY_BIT, CLONE_THREAD, 1, 0),
        refuse,
        _op(RETURN, ALLOW),
    ]
    head = [_op(LOAD, ARCH_AT), _op(JUMP_IF_EQUAL, ARCHITECTURES[machine], 1, 0), _op(RETURN, KILL)]
    return b"".join(head + body)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
