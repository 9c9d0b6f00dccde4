"""Patches: functions and methods of torch replaced by plain wrappers, and put back exactly.

Wrappers are ordinary functions that carry the name under which they are found, so that models that store them still
pickle and deepcopy. While ``torch.compile`` traces, a wrapper is only a call of the original.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from traincheck.record.alive import alive
from traincheck.record.boundary import Boundary, hide_from_compiler

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Hook:
    """What to do at the border of a call. ``enter`` gives the token that ``leave`` gets back."""

    name: str
    enter: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    leave: Callable[[Any, tuple[Any, ...], dict[str, Any], Any, BaseException | None], None]
    adapt: Callable[[tuple[Any, ...], dict[str, Any]], Arguments] | None = None
    """Makes arguments readable more than once (a generator of parameters), without changing their meaning."""
    passive: bool = False
    """Whether it only records: it is passed over in steps that are left out."""
    passive_when_fed: bool = False
    """Whether it is passed over there too while the batches come as they did: it tells nothing new."""
    passes_over: Callable[[tuple[Any, ...]], bool] | None = None
    """In steps that are left out: whether the call with these arguments is passed over."""
    rests: Callable[[tuple[Any, ...]], bool] | None = None
    """In recorded steps: whether the call with these arguments is passed over, because nobody asks for such a one."""


@dataclass
class Gate:
    """Whether this process records at all; wrappers look at nothing else when it does not."""

    awake: bool = False
    recording: bool = True
    """False while a step is left out."""
    fed: bool = False
    """In steps that are left out: whether the latest batch came from a loader that is known to feed the training."""


def around(original: Callable[..., Any], hook: Hook, gate: Gate, boundary: Boundary) -> Callable[..., Any]:
    """``original`` with ``hook`` at its border."""
    run, yes, enter, leave, adapt, name = boundary.run, boundary.yes, hook.enter, hook.leave, hook.adapt, hook.name
    passive, passive_when_fed, passes_over, rests = hook.passive, hook.passive_when_fed, hook.passes_over, hook.rests
    is_compiling, is_traced, is_captured = torch.compiler.is_compiling, torch._C._get_tracing_state, capturing()

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        # First of all: what dynamo sees of the gate it would guard on, and compile again whenever the gate moves.
        if is_compiling():
            return original(*args, **kwargs)
        if not gate.awake:
            return original(*args, **kwargs)
        if not gate.recording and (
            passive or (passive_when_fed and gate.fed) or (passes_over is not None and yes(name, passes_over, args))
        ):
            return original(*args, **kwargs)
        if rests is not None and gate.recording and yes(name, rests, args):
            return original(*args, **kwargs)
        if is_traced() is not None or (is_captured is not None and is_captured()):
            return original(*args, **kwargs)
        if adapt is not None:
            args, kwargs = run(name, adapt, args, kwargs) or (args, kwargs)
        token = run(name, enter, args, kwargs)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            run(name, leave, token, args, kwargs, None, error)
            raise
        run(name, leave, token, args, kwargs, result, None)
        return result

    hide_from_compiler(wrapper.__code__)
    return functools.update_wrapper(wrapper, original)


def capturing() -> Callable[[], bool] | None:
    """Tells whether CUDA work is being captured into a graph: nothing may be read from a device then."""
    return torch.cuda.is_current_stream_capturing if torch.cuda.is_available() else None


@dataclass
class _Patch:
    owner: Any
    name: str
    original: Any
    wrapper: Any
    own: bool
    """Whether the owner itself had the attribute, rather than inheriting it."""

    def apply(self) -> None:
        setattr(self.owner, self.name, self.wrapper)

    def undo(self) -> None:
        if vars(self.owner).get(self.name) is not self.wrapper:
            return
        if self.own:
            setattr(self.owner, self.name, self.original)
        else:
            delattr(self.owner, self.name)


@dataclass
class Patches:
    """All replaced attributes of one session."""

    gate: Gate
    boundary: Boundary
    _patches: list[_Patch] = field(default_factory=list)

    def wrap(self, owner: Any, name: str, hook: Hook) -> None:
        """Put ``hook`` around ``owner.name``; an attribute that this version of torch lacks is left out."""
        found = vars(owner).get(name, _ABSENT)
        if isinstance(found, classmethod):
            wrapper: Any = classmethod(around(found.__func__, hook, self.gate, self.boundary))
            self._apply(_Patch(owner, name, found, wrapper, True))
            return
        original = getattr(owner, name, None) if found is _ABSENT else found
        if not callable(original):
            return
        wrapper = self._wrapper_of(original, hook)
        if isinstance(owner, types.ModuleType):
            wrapper.__module__, wrapper.__qualname__, wrapper.__name__ = owner.__name__, name, name
        self._apply(_Patch(owner, name, found, wrapper, found is not _ABSENT))

    def _apply(self, patch: _Patch) -> None:
        patch.apply()
        self._patches.append(patch)

    def wrap_alike(self, owners: tuple[Any, ...], name: str, hook: Hook) -> None:
        """Put one wrapper in every place from which torch offers the same function; the last owner names it."""
        for owner in owners:
            self.wrap(owner, name, hook)

    def rebind(self, models: Iterable[Any] = ()) -> None:
        """Replace the originals that programs, and these models of theirs, bound by name before the session started."""
        _rebind({id(patch.original): patch.wrapper for patch in self._functions()}, models)

    def undo(self) -> None:
        """Put everything back, also where programs bound a wrapper by name while the session ran."""
        back = {id(patch.wrapper): patch.original for patch in self._functions()}
        for patch in reversed(self._patches):
            patch.undo()
        self._patches.clear()
        _rebind(back, alive(torch.nn.Module))

    def suspended(self, *, everywhere: bool = False) -> AbstractContextManager[None]:
        """Without the patches on modules, or any: compilers look at what they find there."""
        return _Suspended(list(self._patches) if everywhere else self._functions())

    def _functions(self) -> list[_Patch]:
        return [patch for patch in self._patches if isinstance(patch.owner, types.ModuleType)]

    def _wrapper_of(self, original: Any, hook: Hook) -> Any:
        for patch in self._functions():
            if patch.original is original:
                return patch.wrapper
        return around(original, hook, self.gate, self.boundary)


@dataclass
class _Suspended:
    patches: list[_Patch]

    def __enter__(self) -> None:
        for patch in self.patches:
            patch.undo()

    def __exit__(self, *exc: object) -> None:
        for patch in self.patches:
            patch.apply()


def _rebind(replacements: Mapping[int, Any], models: Iterable[Any]) -> None:
    """In the modules of the program, and in its models, put the new function wherever the old one is bound."""
    if not replacements:
        return
    for name, module in list(sys.modules.items()):
        outside = not name.startswith(("torch.", "traincheck.")) and name != "torch"
        if outside and isinstance(module, types.ModuleType):
            _rebind_in(vars(module), replacements)
    for model in models:
        _rebind_in(vars(model), replacements)


def _rebind_in(namespace: dict[str, Any], replacements: Mapping[int, Any]) -> None:
    for key, value in list(namespace.items()):
        new = replacements.get(id(value))
        if new is not None:
            namespace[key] = new
