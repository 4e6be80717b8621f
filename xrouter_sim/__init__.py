"""xrouter-sim: a simulation-first offline lab for LLM routers."""

__version__ = "0.1.0"
