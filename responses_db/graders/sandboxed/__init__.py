"""Modules that run inside the sandbox, on the standard library and each other alone."""
