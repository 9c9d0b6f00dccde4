"""Backward passes: what they are of, and what they leave in gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import first_tensor, number
from traincheck.record.loss_graph import loss_graph
from traincheck.record.loss_weights import TargetWeight, target_weight
from traincheck.record.patching import Hook
from traincheck.values import Value
from traincheck.vocabulary import AFTER, BACKWARD, BEFORE, CARRIED, LOSS_GRAPH, TARGET_WEIGHT

if TYPE_CHECKING:
    from traincheck.record.session import Session


def in_backward() -> bool:
    """Whether autograd is running a backward in this thread: a forward in it is a recomputation."""
    return bool(torch._C._current_graph_task_id() >= 0)


class BackwardHooks:
    """Records ``backward``, and counts the backward passes of a step."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._weights: dict[int, TargetWeight | None] = {}
        """By call, until it ends: the graph that tells them does not outlive the pass."""

    def passes_over(self, args: tuple[Any, ...]) -> bool:
        """Whether it is a backward of a step that is left out, like those before it; it is counted here."""
        return self._session.steps.backward_goes_on(self._session.contexts.moment())

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | bool | None:
        session = self._session
        inside = session.calls.thread.inside
        if inside.get(BACKWARD) or in_backward():
            return None
        moment = session.contexts.moment()
        if session.automatic() and session.steps.closes_at_backward(moment, bool(session.calls.thread.optimizers)):
            session.end_window()
        inside[BACKWARD] = 1
        session.steps.backward_begins(moment)
        session.activity()
        if not session.recording:
            return True
        session.walk()
        loss = first_tensor(args[:1]) if args else kwargs.get("tensors")
        described: dict[str, Value] = {}
        if session.scaled_loss is not None and session.scaled_loss() is loss:
            described["scaled"] = True
        call = session.open(BACKWARD, "torch.Tensor.backward", "", described)
        if call is not None:
            if session.plan.wants_detail(TARGET_WEIGHT):
                self._weights[call.seq] = session.boundary.run("weights of targets", target_weight, loss)
            call.args.update(session.answer(LOSS_GRAPH, "graph of the loss", loss_graph, loss))
        if session.plan.wants_detail(CARRIED):
            session.boundary.run("gradients left", session.carried.backward_begins)
        session.snapshots.grads(call, BEFORE, session.models.params)
        return call or True

    def ends(
        self, call: OpenCall | bool | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        session = self._session
        if call is None:
            return
        session.calls.thread.inside[BACKWARD] = 0
        if error is None:
            session.steps.backward_ends()
        if not isinstance(call, OpenCall):
            return
        weight = self._weights.pop(call.seq, None)
        if error is None and call.recorded:
            call.args.update({} if weight is None else session.boundary.run("weights of targets", weight.read) or {})
            call.args.update(_loss(args[0] if args else kwargs.get("tensors")))
            session.snapshots.grads(call, AFTER, session.models.params)
        session.finish(call, error)


def install(session: Session) -> None:
    """Hook into autograd."""
    wrap, backward = session.patches.wrap, BackwardHooks(session)
    hook = Hook(BACKWARD, backward.begins, backward.ends, passive_when_fed=True, passes_over=backward.passes_over)
    wrap(torch.autograd, "backward", hook)
    wrap(Tensor, "backward", Hook(BACKWARD, backward.begins, backward.ends, passive=True))  # it calls the one above


def _loss(tensors: Any) -> dict[str, Value]:
    loss = tensors[0] if isinstance(tensors, (list, tuple)) and len(tensors) == 1 else tensors
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        return {"loss": None}
    value = number(loss)
    return {"loss": value}
