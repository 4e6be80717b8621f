"""The one exception a user is meant to read."""


class LabError(Exception):
    """Something the user can mend: one line that says what, where and how. The CLI prints it and exits 1."""
