"""Optimizers: steps, and clearing of gradients."""

from __future__ import annotations

import sys
import types
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from traincheck.record.arguments import argument, qualified
from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import number
from traincheck.record.freezing import asked_to_freeze
from traincheck.record.models import Owned, innermost
from traincheck.record.patching import Hook, capturing
from traincheck.values import Value
from traincheck.vocabulary import (
    AFTER,
    BEFORE,
    CARRIED,
    LEFT_OUT,
    OPTIMIZER_STEP,
    PASSED_OVER,
    TRAINER_PREPARE,
    UNTIED,
    ZERO_GRAD,
)

if TYPE_CHECKING:
    from traincheck.record.session import Session


@dataclass(slots=True)
class _Step:
    optimizer: int
    call: OpenCall | None


class StepHooks:
    """Records ``optimizer.step`` through torch's own hooks, which every optimizer runs."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._captured = capturing()
        self._stepped: weakref.WeakSet[Optimizer] = weakref.WeakSet()

    def before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or (self._left_out() and not _has_closure(args, kwargs)):
            return
        if self._sees(optimizer):
            self._session.boundary.run(OPTIMIZER_STEP, self._begins, optimizer, args, kwargs)

    def after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or not self._sees(optimizer):
            return
        if self._left_out():
            self._session.steps.stepped()  # nothing else is asked of a step that is left out
        else:
            self._session.boundary.run(OPTIMIZER_STEP, self._ends, optimizer)

    def _left_out(self) -> bool:
        return not self._session.gate.recording and not self._session.calls.thread.optimizers

    def _sees(self, optimizer: Optimizer) -> bool:
        """Whether this step is the program's own: no framework tells it itself, or is just being set up."""
        session = self._session
        if not session.gate.awake or (self._captured is not None and self._captured()):
            return False
        return not session.calls.thread.inside.get(TRAINER_PREPARE) and not session.models.stands_in(optimizer)

    def _begins(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        session, running = self._session, self._session.calls.thread.optimizers
        closure = _has_closure(args, kwargs)
        self._drop_stale(running, optimizer)
        outer = any(step.optimizer == id(optimizer) for step in running)
        step = _Step(id(optimizer), None)
        running.append(step)
        if outer:
            return
        if closure and session.automatic() and session.steps.closes_at_closure():
            session.end_window()
        session.activity()
        label = session.models.add_optimizer(optimizer)
        if not session.recording:
            return
        session.describe()
        rates = [float(group.get("lr", 0.0)) for group in optimizer.param_groups]
        described: dict[str, Value] = {"closure": closure, "lr": max(rates, default=0.0)}
        found_inf = getattr(optimizer, "found_inf", None)
        if isinstance(found_inf, Tensor) and number(found_inf):
            described["skipped"] = True
        elif not closure and optimizer not in self._stepped:
            self._stepped.add(optimizer)
            described |= session.boundary.run("freezing", asked_to_freeze, optimizer, session.models) or {}
        if not closure and len(running) == 1:  # with one, the gradients are yet to come
            described |= session.answer([CARRIED], "gradients left", session.carried.applied, label, session.step)
        call = step.call = session.open(OPTIMIZER_STEP, f"{qualified(type(optimizer))}.step", label, described)
        session.snapshots.params(call, BEFORE, lambda: self._params(optimizer, call))
        session.snapshots.rates(call, BEFORE, optimizer)
        session.snapshots.masters(call, BEFORE, optimizer)
        session.snapshots.grads(call, BEFORE, lambda: session.models.held_by(optimizer))
        session.snapshots.optimizer_state(call, BEFORE, optimizer)

    def _drop_stale(self, running: list[Any], optimizer: Optimizer) -> None:
        """A step that raised never told that it ended: it has no frame on this thread's stack any more."""
        if not running:
            return
        left = _running_steps()
        left[id(optimizer)] -= 1  # the one that begins now
        for step in list(running):
            left[step.optimizer] -= 1
            if left[step.optimizer] < 0:
                running.remove(step)
                if step.call is not None:
                    self._session.calls.close(step.call, "Exception")

    def _ends(self, optimizer: Optimizer) -> None:
        session, running = self._session, self._session.calls.thread.optimizers
        while running and running[-1].optimizer != id(optimizer):
            running.pop()
        if not running:
            return
        step = running.pop()
        if any(outer.optimizer == step.optimizer for outer in running):
            return
        session.steps.stepped()
        session.clipped.clear()
        call = step.call
        if call is None:
            return
        if call.recorded:
            call.out = {"grads": _gradients(optimizer), "lr_positive": bool(call.args["lr"])}
            for detail, question in ((LEFT_OUT, session.loose.left_out), (PASSED_OVER, session.unheld.passed_over)):
                call.args.update(session.answer([detail], "parameters left out", question, optimizer, session.step))
            call.args.update(session.answer([UNTIED], "ties", session.ties.broken, optimizer))
            session.progress.stepped(optimizer, session.step)
            if not running and session.plan.wants_detail(CARRIED):  # one may take its step through another one
                session.boundary.run("gradients left", self._leaves, optimizer, call)
        session.snapshots.params(call, AFTER, lambda: self._params(optimizer, None))
        session.snapshots.grads(call, AFTER, lambda: session.models.held_by(optimizer))
        session.snapshots.optimizer_state(call, AFTER, optimizer)
        session.snapshots.generators(call, AFTER)
        session.snapshots.rates(call, AFTER, optimizer)
        session.finish(call)

    def _leaves(self, optimizer: Optimizer, call: OpenCall) -> None:
        session = self._session
        if call.args["closure"]:
            call.args.update(session.carried.applied(call.subject, session.step))
        session.carried.stepped(optimizer, call.subject, session.step)

    def _params(self, optimizer: Optimizer, first: OpenCall | None) -> list[Owned]:
        """All parameters of the models it trains, and its own; once a step those of all other models too."""
        session, models = self._session, self._session.models
        everything = first is not None and not session.frozen_seen
        if everything:
            session.frozen_seen = True
        held, label = models.held_by(optimizer), models.add_optimizer(optimizer)
        return models.group((label, everything), lambda: self._members(held, everything))

    def _members(self, held: list[Owned], everything: bool) -> list[Owned]:
        ids = {id(owned.tensor) for owned in held}
        found: list[Owned] = []
        for tree in self._session.models.trees:
            if everything or any(id(owned.tensor) in ids for owned in tree.params):
                found += tree.params
        return found + held


class ZeroGradHooks:
    """Records ``optimizer.zero_grad``, of optimizers and of modules."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        session, owner = self._session, args[0]
        inside = session.calls.thread.inside
        inside[ZERO_GRAD] = inside.get(ZERO_GRAD, 0) + 1
        if inside[ZERO_GRAD] > 1:
            return None
        session.walk()
        models = session.models
        label = models.path(innermost(owner)) if isinstance(owner, Module) else models.add_optimizer(owner)
        described: dict[str, Value] = {"set_to_none": bool(argument(args, kwargs, 1, "set_to_none", True))}
        call = session.open(ZERO_GRAD, f"{qualified(type(owner))}.zero_grad", label, described)
        session.snapshots.grads(call, BEFORE, lambda: self._cleared(owner))
        return call

    def ends(
        self, call: OpenCall | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        self._session.calls.thread.inside[ZERO_GRAD] -= 1
        self._session.clipped.clear()
        self._session.snapshots.grads(call, AFTER, lambda: self._cleared(args[0]))
        self._session.finish(call, error)

    def _cleared(self, owner: Any) -> list[Owned]:
        models = self._session.models
        if isinstance(owner, Optimizer):
            return models.held_by(owner)
        return models.group(("of", id(owner)), lambda: self._params_of(owner))

    def _params_of(self, module: Module) -> list[Owned]:
        mine = {id(param) for param in module.parameters()}
        return [owned for owned in self._session.models.params() if id(owned.tensor) in mine]


class ConstructionHooks:
    """Sees optimizers as they are built: a program that has one is expected to step."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Nothing is known of it yet."""

    def ends(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        if error is None:
            self._session.models.add_optimizer(args[0])
            self._session.models.refresh()  # the names that its parameters have now, should they be replaced later
            self._session.steps.optimizer_exists = True


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into optimizers."""
    steps, clearing, wrap = StepHooks(session), ZeroGradHooks(session), session.patches.wrap
    before, after = register_optimizer_step_pre_hook(steps.before), register_optimizer_step_post_hook(steps.after)
    if session.wants(ZERO_GRAD):
        hook = Hook(ZERO_GRAD, clearing.begins, clearing.ends, passive=True)
        for owner in (Optimizer, Module):
            wrap(owner, "zero_grad", hook)
    construction = ConstructionHooks(session)
    wrap(Optimizer, "__init__", Hook("optimizer.__init__", construction.begins, construction.ends))
    return [before.remove, after.remove]


def _has_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return (args[1] if len(args) > 1 else kwargs.get("closure")) is not None


def _gradients(optimizer: Optimizer) -> str:
    present = [tensor.grad is not None for group in optimizer.param_groups for tensor in group["params"]]
    return "none" if not any(present) else "all" if all(present) else "some"


def _running_steps() -> Counter[int]:
    """For each optimizer, how many of torch's step wrappers run in this thread."""
    found: Counter[int] = Counter()
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == _STEP_FILE and frame.f_code.co_name == "wrapper":
            found[id(frame.f_locals.get("self"))] += 1
        frame = frame.f_back
    return found


_STEP_FILE = Optimizer.profile_hook_step.__code__.co_filename
