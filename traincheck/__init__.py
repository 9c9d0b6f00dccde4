"""TrainCheck: notices, within a step, that a training run is silently wrong."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Final

from traincheck.vocabulary import STAGES

if TYPE_CHECKING:
    from traincheck.reaction import ViolationError
    from traincheck.watching import watch

__all__ = ["watch", "step", "stage", "ViolationError", "__version__"]

_HOME: Final = {"watch": "watching", "ViolationError": "reaction"}
_DISTRIBUTION: Final = "traincheck-suite"


def step() -> None:
    """A training step ends here. Never needed; for loops whose steps are to be counted exactly as the user means them.

    Does nothing while nothing is recorded.
    """
    session = _session()
    if session is not None:
        session.end_step()


def stage(name: str) -> AbstractContextManager[None]:
    """What the program does inside of this ``with``: ``init``, ``train``, ``eval`` or ``checkpoint``. Never needed.

    Does nothing while nothing is recorded. Raises ``ValueError`` for any other name.
    """
    if name not in STAGES:
        raise ValueError(f"there is no stage {name!r}; there are {', '.join(STAGES)}")
    session = _session()
    return nullcontext() if session is None else session.contexts.stage(name)


def _session() -> Any:
    """The active session. Without the recorder imported there is none, and this does not import it."""
    record = sys.modules.get("traincheck.record")
    return None if record is None else record.active()


def __getattr__(name: str) -> Any:
    """Imports torch only with the first name that needs it."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name == "__version__":
        try:
            return metadata.version(_DISTRIBUTION)
        except metadata.PackageNotFoundError:
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
