"""The circumstances of an example: the context fields that preconditions may speak of. Few values each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from traincheck.events import Call, Snapshot, Variable
from traincheck.values import Fields, Value, fields
from traincheck.vocabulary import (
    AFTER,
    ATTENTION,
    BACKWARD,
    BEFORE,
    COLLECTIVE,
    DATA_ITER,
    DATA_NEXT,
    DROPOUT,
    FORWARD,
    GRAD,
    LOSS,
    LR,
    MATMUL,
    MODULE_FORWARD,
    OPTIMIZER_STEP,
    PARAM,
    SCALER_STEP,
)
from traincheck.window import Window, content

LOW_PRECISION: Final = frozenset({"bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"})
TINY_NORM: Final = 1e-6
TINY_UPDATE: Final = 1e-7
"""Updates per element below this may leave a parameter as it is: they vanish in rounding."""
ADAPTIVE: Final = ("Ada", "RMSprop", "Rprop", "LAMB", "Lamb", "Lion", "Muon", "LBFGS")
"""Parts of the names of optimizers whose updates do not shrink with the gradient. Any other one is taken for SGD."""
TINY_LR: Final = 1e-7


def of_call(window: Window, call: Call) -> dict[str, Value]:
    """What surrounds a call. For roles that an evaluation plays too, whether it is one."""
    context: dict[str, Value] = {"loss_scaling": bool(window.named(SCALER_STEP))}
    if call.role in EVALUATED:
        context["stage"] = call.context.stage
        context["grad_enabled"] = call.context.grad_enabled
    if "closure" in call.args:
        context["closure"] = call.args["closure"]
    return context


def of_cycle(window: Window, call: Call) -> dict[str, Value]:
    """What surrounds a call, as far as order and pace of the training cycle can depend on it."""
    context = of_call(window, call)
    del context["loss_scaling"]
    return context


EVALUATED: Final = frozenset({DATA_ITER, DATA_NEXT, FORWARD, LOSS, MODULE_FORWARD, DROPOUT, ATTENTION, MATMUL})
"""Roles that an evaluation plays too."""


def of_training(call: Call) -> bool:
    """Whether the call is part of the training cycle: finished, not within a constructor, not of an evaluation."""
    if call.error or call.args.get("in_init"):
        return False
    return call.role not in EVALUATED or call.context.stage in ("train", "init")


def calls_by_group(window: Window, key: str) -> dict[tuple[int, ...], dict[int, list[Call]]]:
    """The training calls of ``key`` on each rank, for each group of ranks that make them together.

    A collective names its group, and whatever else its ranks are doing they make it together; every other call concerns
    all ranks. ``collective.`` stands for all collectives.
    """
    everyone = tuple(peer.process.rank for peer in window.peers)
    found: dict[tuple[int, ...], dict[int, list[Call]]] = {}
    for peer in window.peers:
        for call in _calls(peer, key):
            group = call.args.get("group")
            ranks = tuple(rank for rank in everyone if not isinstance(group, tuple) or rank in group)
            if call.context.stage == "train" or group is not None:
                found.setdefault(ranks, {rank: [] for rank in ranks})[peer.process.rank].append(call)
    return {group: by_rank for group, by_rank in found.items() if len(by_rank) > 1}


def _calls(window: Window, key: str) -> list[Call]:
    if key != COLLECTIVE:
        return window.named(key)
    return [call for call in window.calls if call.role.startswith(COLLECTIVE)]


def same_parameters(window: Window) -> bool:
    """Whether all ranks hold parameters of the same names: the stages of a pipeline do not."""
    known: bool | None = window.memo.get("same parameters")
    if known is None:
        held = {frozenset(name for name, one in peer.variables.items() if one.kind == PARAM) for peer in window.peers}
        known = window.memo["same parameters"] = len(held) == 1
    return known


def told_by_rank(values: Mapping[int, Value]) -> str:
    """What each rank has; with more than two ranks, of most of which it is the same, who differs from them."""
    usual, count = Counter(map(str, values.values())).most_common(1)[0]
    odd = {rank: value for rank, value in values.items() if str(value) != usual}
    if 2 * count > len(values) > 2 and odd:
        told = ", ".join(f"{value} on rank {rank}" for rank, value in odd.items())
        return f"{told}, {usual} on the {count} other ranks"
    return ", ".join(f"{value} on rank {rank}" for rank, value in values.items())


def frozen(values: dict[str, Value]) -> Fields:
    """A context in the form in which evidence counts it."""
    return fields(values)


def pass_ended(window: Window) -> bool:
    """Whether a pass over the training data ended in this window, or one batch was left for its end."""
    return any(call.error == "StopIteration" for call in window.named(DATA_NEXT))


def optimizer_steps(window: Window) -> list[Call]:
    """The optimizer steps that were really taken: finished, and not skipped for an overflow."""
    return [
        call
        for call in window.named(OPTIMIZER_STEP)
        if call.end >= 0 and not call.args.get("skipped") and not call.error
    ]


def gradients(window: Window, step: Call) -> dict[str, str] | None:
    """For each parameter here the size of the gradient that was applied: ``none``, ``zero``, ``tiny``, ``normal``."""
    known: dict[str, str] | None = window.memo.get(("gradients", step.seq))
    if known is None:
        snapshot = window.snapshot(step, AFTER, GRAD)
        if snapshot is None:
            return None
        known = dict(_sizes(snapshot))
        window.memo["gradients", step.seq] = known
    return known


def _sizes(snapshot: Snapshot) -> list[tuple[str, str]]:
    norms = snapshot.values or (1.0,) * len(snapshot.names)
    return [
        (name, "none" if fingerprint is None else _size(norm))
        for name, fingerprint, norm in zip(snapshot.names, snapshot.hashes, norms, strict=True)
    ]


def _size(norm: float | None) -> str:
    if norm is None or norm != norm:
        return "normal"
    return "zero" if norm == 0 else "tiny" if norm < TINY_NORM else "normal"


def norms(window: Window, step: Call) -> dict[str, float]:
    """The norm of each gradient that this step applied, where it was recorded."""
    snapshot = window.snapshot(step, AFTER, GRAD)
    if snapshot is None or not snapshot.values:
        return {}
    return {name: norm for name, norm in zip(snapshot.names, snapshot.values, strict=True) if norm is not None}


def _vanishes(step: Call, variable: Variable, norm: float, rate: float) -> bool:
    """Whether the update is so small that rounding may swallow it in every element."""
    if any(name in step.subject for name in ADAPTIVE):
        return False
    elements = float(max(1, math.prod(variable.shape)))
    return norm * rate < TINY_UPDATE * math.sqrt(elements)


def learning_rates(window: Window, step: Call) -> dict[str, float]:
    """The learning rate of each parameter group at this step."""
    snapshot = window.snapshot(step, BEFORE, LR)
    return (
        {}
        if snapshot is None
        else {name: value or 0.0 for name, value in zip(snapshot.names, snapshot.values, strict=True)}
    )


def of_parameters(window: Window, step: Call) -> dict[str, Fields]:
    """For each parameter seen at this optimizer step, its circumstances there."""
    known: dict[str, Fields] | None = window.memo.get(("parameters", step.seq))
    if known is not None:
        return known
    after = window.snapshot(step, AFTER, PARAM) or window.snapshot(step, BEFORE, PARAM)
    sizes, rates, lengths = gradients(window, step) or {}, learning_rates(window, step), norms(window, step)
    variables = window.variables_at(step)
    known = {}
    interned: dict[tuple[Value, ...], Fields] = {}
    for name in after.names if after else ():
        variable = variables.get(name)
        if variable is None:
            continue
        rate, gradient = rates.get(variable.group), sizes.get(name, "none")
        if gradient == "normal" and rate is not None and _vanishes(step, variable, lengths.get(name, math.inf), rate):
            gradient = "tiny"
        speed = "unknown" if rate is None else "zero" if rate == 0 else "tiny" if rate < TINY_LR else "normal"
        own, empty = variable.optimizer == step.subject, 0 in variable.shape
        low_precision = variable.dtype in LOW_PRECISION
        key = (variable.trainable, own, gradient, speed, low_precision, empty)
        if key not in interned:
            names = ("trainable", "own", "gradient", "lr", "low_precision", "empty")
            interned[key] = frozen(dict(zip(names, key, strict=True)))
        known[name] = interned[key]
    window.memo["parameters", step.seq] = known
    return known


def must_move(context: Fields) -> bool:
    """Whether these are the circumstances of a parameter that an optimizer step can be expected to move."""
    return ("gradient", "normal") in context


def trained_here(window: Window, call: Call) -> bool:
    """Whether an optimizer that steps in this window holds parameters of the model that is called."""
    trained: set[str] | None = window.memo.get("trained models")
    if trained is None:
        stepped = {step.subject for step in window.named(OPTIMIZER_STEP)}
        held = (variable for variable in window.variables.values() if variable.optimizer in stepped)
        trained = {variable.name.partition(".")[0] for variable in held}
        window.memo["trained models"] = trained
    model = call.subject.partition(".")[0]
    return model in trained


def feeds_a_step(window: Window, call: Call) -> bool:
    """Whether an optimizer step applies what came of this forward, or of the one that it is a part of.

    That is the last one of each model before the last backward of the step. Others may be for something else: an
    attack on the model, a look at what it attends to.
    """
    known: list[tuple[int, float]] | None = window.memo.get("feeding forwards")
    if known is None:
        known = window.memo["feeding forwards"] = list(_feeding(window))
    return any(start <= call.seq <= end for start, end in known)


def _feeding(window: Window) -> Iterator[tuple[int, float]]:
    """When these forwards began and ended."""
    for step in optimizer_steps(window):
        backward = max((call.seq for call in window.named(BACKWARD) if call.seq < step.end), default=-1)
        before = [call for call in window.named(FORWARD) if call.seq < backward and call.context.grad_enabled]
        for last in {call.subject: call for call in before}.values():
            yield last.seq, last.end if last.end >= 0 else math.inf


def parameters_at_step(window: Window, point: str) -> dict[str, int | float | None]:
    """The content of every parameter at the border of this window's first (``before``) or last (``after``) step."""
    found: dict[str, int | float | None] = {}
    steps = [call for call in window.named(OPTIMIZER_STEP) if call.end >= 0]
    for step in reversed(steps) if point == BEFORE else steps:
        snapshot = window.snapshot(step, point, PARAM)
        if snapshot is not None:
            found.update(content(snapshot))
    return found
