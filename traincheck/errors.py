"""An error that a user can act on: one line that says what was found, what was expected and what to do."""

from __future__ import annotations


class UserError(Exception):
    """Base of everything that the commands print as one line instead of a traceback."""

    def __init__(self, message: str) -> None:
        """``message`` may quote what another library said, over several lines."""
        super().__init__(" ".join(message.splitlines()))
