"""An error that a user can act on: one line that says what was found, what was expected and what to do."""

from __future__ import annotations


class UserError(Exception):
    """Base of everything that the commands print as one line instead of a traceback."""
