"""Scores, curves, intervals and the report, all from the decisions file."""
