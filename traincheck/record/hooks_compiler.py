"""Compilers must find torch's own functions: ``torch.jit.script`` reads their source, dynamo keeps their identities."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import torch

from traincheck.record.arguments import argument
from traincheck.record.patching import Arguments, Hook, Patches

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from traincheck.record.session import Session


DYNAMO: Final = "torch._dynamo"


class DynamoImport:
    """An import finder that finds nothing by itself: dynamo is imported as if nothing were patched.

    As it is imported, it lists torch's functions by identity, for good: one that it does not know breaks every graph.
    """

    def __init__(self, patches: Patches) -> None:
        self._patches = patches
        self._asking = False

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of dynamo from the other finders; ``None`` for every other module."""
        if name != DYNAMO or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking = False
        if spec is not None and spec.loader is not None:
            self._surround(spec.loader)
        return spec

    def _surround(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            with self._patches.suspended(everywhere=True):
                execute(module)

        loader.exec_module = exec_module

    def remove(self) -> None:
        """Look no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)


def _one_frame_up(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """It looks up the names in a class where it is called from, so many frames above it: our wrapper is one more."""
    up = argument(args, kwargs, 2, "_frames_up", 0) + 1
    return ((*args[:2], up, *args[3:]), kwargs) if len(args) > 2 else (args, {**kwargs, "_frames_up": up})


def install(session: Session) -> list[Callable[[], None]]:
    """Take the patches away while something is scripted, and while dynamo is imported."""

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[None]:
        suspended = session.patches.suspended()
        suspended.__enter__()
        return suspended

    def ends(
        suspended: AbstractContextManager[None] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        if suspended is not None:
            suspended.__exit__(None, None, None)

    session.patches.wrap(torch.jit, "script", Hook("torch.jit.script", begins, ends, _one_frame_up))
    if DYNAMO in sys.modules:
        return []
    finder = DynamoImport(session.patches)
    sys.meta_path.insert(0, finder)
    return [finder.remove]
