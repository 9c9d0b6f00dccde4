"""Clipping of gradients."""

from __future__ import annotations

import math
import types
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad

from traincheck.record.arguments import argument
from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import norms, number
from traincheck.record.patching import Arguments, Hook
from traincheck.values import Value
from traincheck.vocabulary import GRAD_CLIP

if TYPE_CHECKING:
    from traincheck.record.session import Session


class ClipHooks:
    """Records ``grad.clip``, by norm or by value."""

    def __init__(self, session: Session, limit: str) -> None:
        self._session = session
        self._limit = limit
        self._read: dict[int, list[Tensor]] = {}
        """What generators of parameters gave, until the call that they are for has begun."""

    def adapt(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """A generator of parameters can be read once only: read it, and hand on one that gives the same."""
        parameters = argument(args, kwargs, 0, "parameters")
        if not isinstance(parameters, types.GeneratorType):
            return args, kwargs
        items = list(parameters)
        again = (item for item in items)
        self._read[id(again)] = items
        return ((again, *args[1:]), kwargs) if args else (args, {**kwargs, "parameters": again})

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[OpenCall | None, list[Tensor]]:
        given = argument(args, kwargs, 0, "parameters")
        parameters = list(_parameters(self._read.pop(id(given), given)))
        grads = [param.grad for param in parameters if param.grad is not None]
        described: dict[str, Value] = {
            self._limit: float(argument(args, kwargs, 1, self._limit)),
            "tensors": len(grads),
        }
        if grads:
            described["blind"] = False
        elif self._sees_nothing(given, parameters):
            described["blind"] = True
        if self._session.steps.optimizer_exists:
            described["again"] = bool(self._session.clipped) and any(map(self._grew, grads))
        if self._limit == "max_norm":
            described["norm_type"] = float(argument(args, kwargs, 2, "norm_type", 2.0))
        name = "clip_grad_norm_" if self._limit == "max_norm" else "clip_grad_value_"
        return self._session.open(GRAD_CLIP, f"torch.nn.utils.{name}", "", described), grads

    def ends(
        self,
        begun: tuple[OpenCall | None, list[Tensor]] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        error: Any,
    ) -> None:
        call, grads = begun or (None, [])
        if call is not None and call.recorded and error is None:
            if isinstance(result, Tensor):
                call.out["total_norm"] = total = number(result)
                if total is not None and float(argument(args, kwargs, 1, "max_norm")) < total < math.inf:
                    passes = self._passes()
                    scaled = {id(grad): (weakref.ref(grad), passes, grad._version) for grad in grads}
                    self._session.clipped.update(scaled)
            if call.args.get("norm_type") == 2.0:
                call.out["after_norm"] = sum((norm or 0.0) ** 2 for norm in norms(grads)) ** 0.5
        self._session.finish(call, error)

    def _sees_nothing(self, given: Any, parameters: list[Tensor]) -> bool:
        """Whether what is to be clipped is elsewhere: a generator that ran out, gradients that a framework keeps."""
        if not parameters:
            return isinstance(given, types.GeneratorType)
        models = self._session.models
        kept = [
            group
            for optimizer, _ in models.optimizers()
            if models.stands_in(optimizer)
            for group in models.groups(optimizer)
        ]
        ids = {id(tensor) for group in kept for tensor in group}
        return any(id(param) in ids for param in parameters)

    def _grew(self, grad: Tensor) -> bool:
        """Whether a backward pass has added to it since it was scaled down."""
        found = self._session.clipped.get(id(grad))
        if found is None:
            return False
        reference, passes, version = found
        return reference() is grad and passes < self._passes() and grad._version > version

    def _passes(self) -> tuple[int, int]:
        return self._session.step, self._session.steps.micro_step


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into the functions that clip."""
    if session.wants(GRAD_CLIP):
        for limit, name in (("max_norm", "clip_grad_norm_"), ("clip_value", "clip_grad_value_")):
            clip = ClipHooks(session, limit)
            hook = Hook(GRAD_CLIP, clip.begins, clip.ends, clip.adapt, passive=True)
            session.patches.wrap_alike((clip_grad, torch.nn.utils), name, hook)
    return []


def _parameters(parameters: Any) -> Iterable[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else parameters
