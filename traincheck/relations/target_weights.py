"""Targets weigh the same in every micro-batch of a step, however many of them each micro-batch counts.

A mean over each micro-batch and then over micro-batches gives the targets of one with few of them more weight
(transformers pull request 34191). Other differences may be meant: losses of several tasks, a curriculum.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from typing import Final, NamedTuple

from traincheck.events import Call
from traincheck.relations import circumstances
from traincheck.relations.contract import Example
from traincheck.values import Fields
from traincheck.vocabulary import BACKWARD, FORWARD, OPTIMIZER_STEP, TARGET_WEIGHT
from traincheck.window import Window

NOTICEABLE: Final = 1.5
"""Micro-batches whose numbers of counted targets differ by less than this factor say nothing.

Random masks of equal batches differ by less; that a mean of means is slightly off there is no one's error.
"""
ROUNDING: Final = 1e-3


class _Pass(NamedTuple):
    call: Call
    weight: float
    counted: int
    ignored: int


def examples(window: Window) -> Iterator[Example]:
    """One for each optimizer step over several micro-batches with different numbers of counted targets."""
    for passes in _by_optimizer_step(window):
        counts = [item.counted for item in passes]
        if len(passes) < 2 or max(counts) < NOTICEABLE * min(counts):
            continue
        context = circumstances.frozen({"ignored_targets": any(item.ignored for item in passes)})
        if _equal([item.weight for item in passes]):
            yield Example(True, context, count=len(passes))
        elif _equal([item.weight * item.counted for item in passes]):
            yield _unbalanced(passes, context)


def _unbalanced(passes: list[_Pass], context: Fields) -> Example:
    few, many = min(passes, key=lambda item: item.counted), max(passes, key=lambda item: item.counted)
    return Example(
        False,
        context,
        (),
        "the loss of a step normalised by all targets that count in it (a sum over its micro-batches, divided once)",
        f"the micro-batches of one accumulation weigh the same although they count {few.counted} to {many.counted} "
        f"targets: a target of the smallest weighs {few.weight / many.weight:.2f} times as much as one of the largest",
        few.call.api,
        len(passes),
    )


def _by_optimizer_step(window: Window) -> Iterator[list[_Pass]]:
    """The backward passes that each optimizer step of this window applied, each after a forward pass of its own."""
    passes: list[_Pass] = []
    kinds: set[object] = set()
    forwards = 0
    calls = [call for key in (FORWARD, BACKWARD, OPTIMIZER_STEP) for call in window.named(key)]
    for call in sorted(calls, key=lambda call: call.seq):
        if call.role == FORWARD:
            forwards += call.context.grad_enabled
        elif call.role == BACKWARD:
            weight, counted, targets = (call.args.get(name) for name in (TARGET_WEIGHT, "counted", "targets"))
            if isinstance(weight, float) and isinstance(counted, int) and isinstance(targets, int) and counted:
                passes.append(_Pass(call, weight, counted, targets - counted))
                kinds.add(call.args.get("classes"))
        else:
            if len(kinds) == 1 and forwards >= len(passes):
                yield passes
            passes, kinds, forwards = [], set(), 0


def _equal(numbers: list[float]) -> bool:
    return all(isclose(number, numbers[0], rel_tol=ROUNDING) for number in numbers)
