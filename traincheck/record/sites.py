"""Where in the user's own code a call was made: the file and line that a finding sends its reader to."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from types import CodeType
from typing import Final

from traincheck.vocabulary import ATTENTION, DROPOUT, MATMUL, MODULE_FORWARD

NOWHERE: Final = frozenset({MODULE_FORWARD, DROPOUT, ATTENTION, MATMUL})
"""Calls of which a step has many, all from the same few places inside models."""

MOST_NAMES: Final = 4096

_INSTALLED: Final = ("site-packages", "dist-packages")
_OURS: Final = "traincheck"


class Sites:
    """Looks for the innermost frame of the user's code."""

    def __init__(self) -> None:
        self._standard = sysconfig.get_paths()["stdlib"]
        self._here = _current_directory()
        self._names: dict[int, tuple[CodeType, str]] = {}
        """By identity, the file as it is shown, empty for what is not the user's. The code object is kept alive."""

    def innermost(self) -> str:
        """``train.py:31`` for the line that is running there now; empty where all frames are libraries'."""
        frame = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            known = self._names.get(id(code))
            if known is None:
                if len(self._names) >= MOST_NAMES:  # a program may make functions as it runs
                    self._names.clear()
                known = self._names[id(code)] = (code, self._name(code, str(frame.f_globals.get("__name__", ""))))
            if known[1]:
                return f"{known[1]}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return ""

    def _name(self, code: CodeType, module: str) -> str:
        file = code.co_filename
        if file.startswith("<") or module.partition(".")[0] == _OURS:
            return ""
        path = Path(file)
        # Frozen and built-in modules have no path; a virtual environment may lie inside of the user's folder.
        if any(part in _INSTALLED for part in path.parts) or file.startswith(self._standard):
            return ""
        return str(path.relative_to(self._here)) if path.is_relative_to(self._here) else file


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was deleted: files are shown whole
        return Path(os.devnull)
