"""What can be wrong with a trace, told as one line that names the file and the place."""

from __future__ import annotations

from typing import Final

from traincheck.errors import UserError

DISTRIBUTION: Final = "traincheck-suite"


class TraceError(UserError):
    """A trace that is missing, is not one, or is damaged."""


class TraceVersionError(TraceError):
    """A trace of a format that this version does not read."""
