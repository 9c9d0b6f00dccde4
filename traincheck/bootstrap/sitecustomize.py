"""Runs at the start of every Python process below our launcher: starts recording once torch has been imported.

It gives way to the user's own ``sitecustomize`` first, imports nothing but what Python has already loaded, and leaves
no mark on a process that never imports torch.
"""

from __future__ import annotations

import importlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

VARIABLE = "TRAINCHECK_LAUNCH"
FOLDER = os.path.dirname(os.path.abspath(__file__))


def give_way() -> None:
    """Run the next ``sitecustomize`` on the path, as Python would have done; without one, nothing happens."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != FOLDER]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        # The import system expects to find the module it is executing.
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


class WhenTorchIsImported:
    """An import finder that finds nothing by itself: what others find for torch gets one call of ours at its end."""

    def __init__(self) -> None:
        self._asking = False

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of torch from the other finders; ``None`` for every other module."""
        if name != "torch" or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking = False
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                begin()

        loader.exec_module = exec_module


def begin() -> None:
    """Start recording in this process. Whatever goes wrong is one line on stderr: the program runs on."""
    if sys.argv and os.path.basename(sys.argv[0]).startswith("traincheck-"):
        return
    try:
        from traincheck.launched import start

        start(os.environ[VARIABLE])
    except Exception as error:
        print(f"traincheck: nothing is recorded by {sys.executable}: {error}", file=sys.stderr)


try:
    give_way()
finally:
    if os.environ.get(VARIABLE):
        import importlib.util

        sys.meta_path.insert(0, WhenTorchIsImported())
