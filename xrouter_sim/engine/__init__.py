"""The orchestration engine: what carries out calls, in a simulated world or (later) the live one."""
