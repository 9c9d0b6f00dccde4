"""An optimizer step applies what the backward pass before it computed: zero_grad does not stand between the two."""

from __future__ import annotations

import math
from collections.abc import Iterator

from traincheck.events import Call
from traincheck.relations import circumstances
from traincheck.relations.contract import Example, Memory
from traincheck.vocabulary import BACKWARD, GRAD, OPTIMIZER_STEP, ZERO_GRAD
from traincheck.window import Window

ON_END = 2
"""So many steps in a row of one optimizer: a program may throw the gradients of a bad batch away and step on."""


def examples(window: Window, memory: Memory) -> Iterator[Example]:
    """One for each step with gradients that are there to be applied, and one for each that lost them to a zero_grad."""
    computed: set[str] = memory.state.get("computed", set()) if window.follows else set()
    cleared: bool = memory.state.get("cleared", False)
    lost: dict[str, int] = memory.state.setdefault("lost", {})
    calls = [call for key in (BACKWARD, ZERO_GRAD, OPTIMIZER_STEP) for call in window.named(key)]
    for call in sorted(calls, key=lambda call: call.end):
        if call.role == BACKWARD:
            computed, cleared = computed | _computed(window, call), False
        elif call.role == ZERO_GRAD:
            cleared = True
        elif call.end >= 0 and not call.error:
            sizes = circumstances.gradients(window, call) or {}
            of_this, computed = computed & sizes.keys(), computed - sizes.keys()
            if not of_this or call.args.get("closure") or call.args.get("skipped"):
                continue
            if any(sizes[name] not in ("none", "zero") for name in of_this):
                lost.pop(call.subject, None)
                yield Example(True, (), count=len(of_this))
            elif cleared:
                lost[call.subject] = lost.get(call.subject, 0) + 1
                if lost[call.subject] >= ON_END:
                    yield _lost(call, tuple(name for name in sizes if name in of_this))
    memory.state |= {"computed": computed, "cleared": cleared}


def _computed(window: Window, backward: Call) -> set[str]:
    """The parameters whose gradients it changed. What is not finite is best thrown away."""
    loss = backward.args.get("loss")
    if isinstance(loss, float) and not math.isfinite(loss):
        return set()
    return {name for name, changed in (window.changes(backward, GRAD) or {}).items() if changed}


def _lost(step: Call, names: tuple[str, ...]) -> Example:
    return Example(
        False,
        (),
        names,
        "the gradients of the backward pass before it",
        f"zero_grad was called between the backward pass and the step: {len(names)} gradients were empty or zero",
        step.api,
        len(names),
    )
