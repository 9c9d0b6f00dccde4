"""Calls occur in an order: one before the other, between every two of it, anew after a step, or never after it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from traincheck.events import Call
from traincheck.relations import circumstances
from traincheck.relations.contract import Example, Memory, Needs
from traincheck.vocabulary import (
    AUTOCAST,
    BACKWARD,
    CHECKPOINT_LOAD,
    DATA_ITER,
    DATA_SET_EPOCH,
    FORWARD,
    GRAD_CLIP,
    GRAD_RESTART,
    GRAD_UNSCALE,
    LOSS,
    LR_STEP,
    OPTIMIZER_STEP,
    PARAM_INIT,
    SCALER_SCALE,
    SCALER_STEP,
    SCALER_UPDATE,
    ZERO_GRAD,
    noun,
    one,
)
from traincheck.window import Window

How = Literal["in step", "between", "ever", "after a step", "at first", "afresh"]

CYCLE: Final = (
    FORWARD,
    LOSS,
    SCALER_SCALE,
    BACKWARD,
    GRAD_UNSCALE,
    GRAD_CLIP,
    SCALER_STEP,
    OPTIMIZER_STEP,
    SCALER_UPDATE,
)
"""The training cycle in its usual order: hypotheses of order within a step go forwards along it."""

BETWEEN: Final = (
    (OPTIMIZER_STEP, ZERO_GRAD),
    (LR_STEP, OPTIMIZER_STEP),
    (GRAD_RESTART, OPTIMIZER_STEP),
    (DATA_ITER, DATA_SET_EPOCH),
)
"""``(anchor, needed)``: between two anchors lies at least one of the needed."""

RENEWED: Final = ((AUTOCAST, FORWARD),)
"""``(first, second)``: after an optimizer step, ``first`` begins anew before ``second`` in that circumstance."""

NEVER_AFTER: Final = ((CHECKPOINT_LOAD, PARAM_INIT),)
"""``(first, second)``: once ``first`` has happened, ``second`` does not undo most of it."""


AT_FIRST: Final = ((OPTIMIZER_STEP, LR_STEP),)
"""``(first, second)``: the very first ``second`` of an object comes after a ``first``."""


AFRESH: Final = ((BACKWARD, GRAD_CLIP), (GRAD_UNSCALE, OPTIMIZER_STEP))
"""``(first, second)``: gradients reach ``second`` only by way of ``first``."""


@dataclass(frozen=True, slots=True)
class Order:
    """``in step``: each ``second`` has a ``first`` before it in its step. ``between``: between two ``second`` lies a
    ``first``. Both are judged in programs that make both calls. ``after a step``: after an optimizer step, a ``first``
    begins anew before the next ``second``. ``at first``: the first ``second`` of all comes after a ``first``.
    ``afresh``: the gradients that a ``second`` works on have just gone through a ``first``. ``ever``: what a ``first``
    did, no ``second`` undoes."""

    first: str
    second: str
    how: How


class APISequence:
    """Jiang et al., OSDI 2025, table 2."""

    name: ClassVar[str] = "APISequence"
    subject_type: ClassVar[type] = Order
    implied_by: ClassVar[dict[str, tuple[str, ...]]] = {}

    def propose(self, window: Window) -> Iterator[Order]:
        for index, first in enumerate(CYCLE):
            for second in CYCLE[index + 1 :]:
                if second in window.keys:
                    yield Order(first, second, "in step")
        for anchor, needed in BETWEEN:
            if anchor in window.keys:
                yield Order(needed, anchor, "between")
        for first, second in RENEWED:
            if any(call.context.autocast for call in window.named(second)):
                yield Order(first, second, "after a step")
        for first, second in AT_FIRST:
            if second in window.keys:
                yield Order(first, second, "at first")
        for first, second in AFRESH:
            if second in window.keys:
                yield Order(first, second, "afresh")
        for first, second in NEVER_AFTER:
            if first in window.keys:
                yield Order(first, second, "ever")

    def needs(self, subject: Order) -> Needs:
        also = {SCALER_STEP, BACKWARD} if subject.how in ("at first", "afresh") else set()
        return Needs(frozenset({subject.first, subject.second, OPTIMIZER_STEP, *also}))

    def triggers(self, subject: Order) -> frozenset[str]:
        return frozenset({subject.first, subject.second} if subject.how == "in step" else ())

    def examples(self, subject: Order, window: Window, memory: Memory) -> Iterable[Example]:
        if subject.how == "in step":
            return _in_step(subject, window, memory)
        if subject.how == "between":
            return _between(subject, window, memory)
        if subject.how == "at first":
            return _at_first(subject, window, memory)
        if subject.how == "afresh":
            return (_clipped_afresh if subject.second == GRAD_CLIP else _unscaled_afresh)(subject, window, memory)
        return (_renewed if subject.how == "after a step" else _never_after)(subject, window, memory)

    def describe(self, subject: Order) -> str:
        first, second = one(subject.first), one(subject.second)
        if subject.how == "in step":
            return f"{second} comes after {first} in its step"
        if subject.how == "between":
            return f"between {second} and the next there is {first}"
        if subject.how == "at first":
            return f"the first {noun(subject.second)} comes after {first}"
        if subject.how == "afresh":
            return f"{second} works on gradients that have gone through {first} since they were last applied"
        if subject.how == "after a step":
            return f"after an optimizer step, {first} begins anew before {second} within it"
        return f"after {first} most of what was loaded sees no {noun(subject.second)}"


def _relevant(window: Window, key: str) -> list[Call]:
    return [call for call in window.named(key) if circumstances.of_training(call)]


def _in_step(subject: Order, window: Window, memory: Memory) -> Iterator[Example]:
    """A program that never makes the first call goes its own way, and breaks no order."""
    firsts = _relevant(window, subject.first)
    memory.state["made"] = memory.state.get("made", False) or bool(firsts)
    if not memory.state["made"]:
        return
    for call in _relevant(window, subject.second):
        context = circumstances.of_cycle(window, call)
        if any(first.seq < call.seq for first in firsts):
            yield Example(True, circumstances.frozen(context))
            continue
        first, second = one(subject.first), one(subject.second)
        seen = f"{first} only after it" if firsts else f"no {subject.first} in this step"
        yield Example(
            False,
            circumstances.frozen(context),
            (call.subject or call.api,),
            f"{first} before {second}",
            seen,
            call.api,
        )


def _between(subject: Order, window: Window, memory: Memory) -> Iterator[Example]:
    """Between two steps of one optimizer (two passes over one loader), as soon as the needed call was ever made."""
    made: int = memory.state.get("made", 0)
    at_last: dict[str, int] = memory.state.setdefault("at last", {})
    if not window.follows:
        at_last.clear()
    ordered = sorted(_relevant(window, subject.first) + _relevant(window, subject.second), key=lambda call: call.seq)
    for call in ordered:
        if (call.role or call.api) == subject.first:
            made += 1
            continue
        before = at_last.get(call.subject)
        at_last[call.subject] = made
        if before is None or not made:
            continue
        context = circumstances.of_cycle(window, call)
        context["shuffled"] = call.args.get("shuffled")
        if made > before:
            yield Example(True, circumstances.frozen(context))
        else:
            expected = f"{one(subject.first)} since the {subject.second} before"
            names = (call.subject or call.api,)
            yield Example(False, circumstances.frozen(context), names, expected, "none", call.api)
    memory.state["made"] = made


def _at_first(subject: Order, window: Window, memory: Memory) -> Iterator[Example]:
    """A schedule that was resumed, or has advanced already, is in the middle of its pace: only its first step counts.

    In steps that were left out there was a step, and one that a gradient scaler leaves out is one.
    """
    began: dict[str, int] = memory.state.setdefault("began", {})
    keys = (subject.first, SCALER_STEP, subject.second)
    calls = sorted((call for key in keys for call in window.named(key)), key=lambda call: call.seq)
    stepped: float = memory.state.get("stepped", -1)
    if calls and not window.follows:
        stepped = max(stepped, calls[0].seq)
    for call in calls:
        if call.role != subject.second:
            stepped = call.seq
        elif call.args.get("in_init"):
            began[call.subject] = call.seq
        elif not call.error and call.out.get("last_epoch") == 1:
            context, first = circumstances.frozen(circumstances.of_cycle(window, call)), one(subject.first)
            expected, seen = f"{first} before {one(subject.second)}", f"no {subject.first} since the schedule began"
            held = stepped > began.get(call.subject, -1)
            yield Example(held, context, (call.subject or call.api,), expected, seen, call.api)
    memory.state["stepped"] = stepped


def _clipped_afresh(subject: Order, window: Window, memory: Memory) -> Iterator[Example]:
    """Clipping what was applied already does nothing. An infinite bound only asks for the norm."""
    fresh: bool | None = memory.state.get("fresh") if window.follows else None
    for call in _of_one_optimizer(window, (BACKWARD, OPTIMIZER_STEP, GRAD_CLIP)):
        if call.role == BACKWARD:
            fresh = True
        elif call.role == OPTIMIZER_STEP:
            fresh = None if fresh is None else False
        elif fresh is not None and call.args.get("max_norm") != math.inf:
            context, expected = circumstances.frozen({}), "gradients that the optimizer has still to apply"
            seen = "the optimizer stepped before, with the gradients as they were"
            yield Example(fresh, context, (call.subject or call.api,), expected, seen, call.api)
            fresh = None
    memory.state["fresh"] = fresh


def _unscaled_afresh(subject: Order, window: Window, memory: Memory) -> Iterator[Example]:
    """The gradients of a scaled loss are as many times too large until the scaler that scaled it unscales them."""
    scaled: bool | None = memory.state.get("scaled") if window.follows else None
    for call in _of_one_optimizer(window, (BACKWARD, GRAD_UNSCALE, SCALER_STEP, OPTIMIZER_STEP)):
        if call.role == BACKWARD:
            scaled = call.args.get("scaled") is True or scaled
        elif call.role != OPTIMIZER_STEP:
            scaled = False
        elif scaled is not None:
            context, expected = circumstances.frozen({}), "an unscaling before the step, or scaler.step(optimizer)"
            seen = "gradients of a scaled loss, applied as they are"
            yield Example(not scaled, context, (call.subject or call.api,), expected, seen, call.api)
            scaled = None
    memory.state["scaled"] = scaled


def _of_one_optimizer(window: Window, keys: Iterable[str]) -> list[Call]:
    """The calls in their order; none where several optimizers step, or one that runs the backward pass itself."""
    steps = window.named(OPTIMIZER_STEP)
    if len({step.subject for step in steps}) > 1 or any(step.args.get("closure") for step in steps):
        return []
    return sorted((call for key in keys for call in window.named(key) if not call.error), key=lambda call: call.seq)


def _renewed(subject: Order, window: Window, memory: Memory) -> Iterator[Example]:
    """Autocast keeps casts of the weights until its region is left: a step inside makes them stale."""
    keys = (subject.first, subject.second, OPTIMIZER_STEP)
    stepped_inside = memory.state.get("stepped inside", False) and window.follows
    for call in sorted((call for key in keys for call in window.named(key)), key=lambda call: call.seq):
        if call.role == subject.first:
            stepped_inside = False
        elif call.role == OPTIMIZER_STEP:
            stepped_inside = call.context.autocast != ""
            memory.state["armed"] = True
        elif call.context.autocast and memory.state.get("armed") and circumstances.of_training(call):
            context = circumstances.frozen(circumstances.of_cycle(window, call))
            expected = "an autocast region that began after the last optimizer step"
            seen = "the region around that step, with the weights of before it in its cache"
            yield Example(not stepped_inside, context, (call.subject,), expected, seen, call.api)
    memory.state["stepped inside"] = stepped_inside


def _never_after(subject: Order, window: Window, memory: Memory) -> Iterator[Example]:
    """A new head may be initialised after a load; it counts from a third of the loaded tensors on."""
    loaded: dict[str, int] = memory.state.setdefault("loaded", {})
    again: dict[str, dict[str, None]] = memory.state.setdefault("again", {})
    calls = sorted(window.named(subject.first) + window.named(subject.second), key=lambda call: call.seq)
    last: Call | None = None
    for call in calls:
        model = call.subject.partition(".")[0]
        matched = call.out.get("matched")
        if (call.role or call.api) == subject.first and isinstance(matched, int):
            loaded[model] = loaded.get(model, 0) + matched
            again.pop(model, None)
        elif call.args.get("loaded") is True:
            again.setdefault(model, {})[call.subject] = None
            last = call
    context = circumstances.frozen({"distributed": window.process.world_size > 1})
    names = tuple(name for model, found in again.items() if 3 * len(found) >= loaded.get(model, 1) for name in found)
    if names and last is not None:
        expected = "loaded weights that stay as they are until the optimizer moves them"
        seen = f"{len(names)} of its parameters were initialised again after the load"
        yield Example(False, context, names, expected, seen, last.api, len(names))
    elif loaded and not names:
        yield Example(True, context)
