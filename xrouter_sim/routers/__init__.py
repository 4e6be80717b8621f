"""Routers: one file a family."""
