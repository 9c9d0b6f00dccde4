"""What every micro-batch of a step contributed is applied: zero_grad does not stand between two of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from traincheck.relations import circumstances
from traincheck.relations.contract import Example, Memory
from traincheck.vocabulary import BACKWARD, DATA_NEXT, FORWARD, ZERO_GRAD
from traincheck.window import Window

ON_END: Final = 2
"""So many micro-batches, or steps, in a row: a program may throw the gradients of one bad batch away."""

_ENGINE: Final = "DeepSpeedEngine"


def examples(window: Window, memory: Memory) -> Iterator[Example]:
    """One for each step of several micro-batches and one optimizer."""
    steps = circumstances.optimizer_steps(window)
    batches = [call.seq for call in window.named(DATA_NEXT) if call.context.stage == "train" and not call.error]
    if not batches:  # an engine that counts its micro-batches tells them without a loader
        forwards = window.named(FORWARD)
        batches = [call.seq for call in forwards if call.args.get("wrapper") == _ENGINE and call.context.grad_enabled]
    if len(steps) != 1 or len(batches) < 2:
        return
    step = steps[0]
    backwards = [call for call in window.named(BACKWARD) if call.seq < step.seq]
    cleared = [call.end for call in window.named(ZERO_GRAD) if call.seq < step.seq]
    last = [
        max((call.end for call in backwards if begin < call.seq < end), default=-1)
        for begin, end in zip(batches, [*batches[1:], step.seq], strict=True)
    ]
    if -1 in last:
        return
    lost = [begin for begin, end in itertools.pairwise(last) if any(begin < at < end for at in cleared)]
    if not lost:
        memory.state["lost"] = 0
        yield Example(True, ())
    elif len(lost) == len(batches) - 1:
        on_end = memory.state["lost"] = (memory.state.get("lost", 0) if window.follows else 0) + len(lost)
        if on_end >= ON_END:
            yield Example(
                False,
                (),
                (step.subject,),
                f"the gradients of all {len(batches)} micro-batches of the step",
                "zero_grad was called after each of them: only those of the last one were left to be applied",
                step.api,
            )
