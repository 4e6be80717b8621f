"""Limits that a script sets on itself before it runs anything that is not its own. They cannot be raised again."""

import resource


def limit(cpu_s: int, memory: int, file_size: int) -> None:
    """Seconds of CPU, bytes of address space and of one file; no core dumps, few open files."""
    for kind, most in [
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ]:
        resource.setrlimit(kind, (most, most))
