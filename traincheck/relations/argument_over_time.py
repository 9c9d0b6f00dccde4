"""An argument over time: it stays, it changes, or it does not end at nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from traincheck.events import Call
from traincheck.relations import circumstances
from traincheck.relations.argument import Argument, context_of, example_of, value_of
from traincheck.relations.contract import Example, Memory
from traincheck.values import Value, same
from traincheck.vocabulary import DATA_NEXT, LR_STEP, TRAINER_STEP
from traincheck.window import Window

VARIED: Final = "varied"
"""With the name of an object: it has given different values."""
MAX_SUBJECTS: Final = 4096
"""How many distinct objects a steady or distinct argument is remembered for."""


def over_time(subject: Argument, window: Window, memory: Memory) -> Iterator[Example]:
    """Each call is compared with the one before it of the same object in the same situation."""
    last: dict[tuple[Value, ...], Value] = memory.state
    for call in window.named(subject.call):
        value = value_of(call, subject.argument)
        if value is None or (subject.argument == "training" and not _trains(window, call)):
            continue
        key = _circumstance(call)
        before = last.get(key)
        if len(last) < MAX_SUBJECTS or key in last:
            last[key] = value
        if before is None:
            continue
        if subject.how == "steady":
            expected, seen = f"{subject.argument} {before}, as before", f"{subject.argument} {value}"
            yield example_of(same(value, before), context_of(window, call), call, expected, seen)
        elif window.follows and call.context.stage == "train":
            if value != before:
                last[VARIED, call.subject] = True
            elif subject.call == DATA_NEXT and call.args.get("batches") is None and (VARIED, call.subject) not in last:
                continue  # a stream of one batch, for all that is known
            yield example_of(value != before, context_of(window, call), call, "something new", "exactly the same again")


def _trains(window: Window, call: Call) -> bool:
    """The mode of a model matters where an optimizer trains it on what it gives."""
    return circumstances.trained_here(window, call) and circumstances.feeds_a_step(window, call)


def kept_on(subject: Argument, window: Window, memory: Memory) -> Iterator[Example]:
    """Dropout is not switched off where it was on. A module may use several rates, and ends none that it began with."""
    usual: dict[tuple[Value, ...], set[Value]] = memory.state.setdefault("usual", {})
    began: dict[tuple[Value, ...], int] = memory.state.setdefault("began", {})
    for call in window.named(subject.call):
        value, key = value_of(call, subject.argument), _circumstance(call)
        if value is None or (key not in began and len(began) >= MAX_SUBJECTS):
            continue
        known = usual.setdefault(key, set())
        if began.setdefault(key, window.step) == window.step:
            known.add(value)
            continue
        held = bool(value) or value in known
        usual_value = next((one for one in known if one), value)
        expected, seen = f"{subject.argument} {usual_value}, as before", f"{subject.argument} {value}"
        yield example_of(held, context_of(window, call), call, expected, seen)
        known.add(value)


def _circumstance(call: Call) -> tuple[Value, ...]:
    """What is compared over time: the same object in the same situation."""
    told = (call.context.stage, call.context.grad_enabled, call.args.get("recompute"))
    return (call.subject or call.api, call.api, *told)


def lasting(subject: Argument, window: Window, memory: Memory) -> Iterator[Example]:
    """A schedule may touch zero (a restart, its very end); two steps of one optimizer there train nothing.

    The loop of a framework tells the rate of each of its steps, and is judged by that.
    """
    if window.named(TRAINER_STEP):
        return
    last: dict[str, Value] = memory.state.setdefault("last", {})
    for call in sorted(window.named(subject.call) + window.named(LR_STEP), key=lambda call: call.seq):
        if call.role == LR_STEP:
            memory.state["scheduled"] = memory.state.get("scheduled", False) or not call.args.get("in_init")
            continue
        value, before = value_of(call, subject.argument), last.get(call.subject)
        if value is None or (before is None and value == 0):
            continue
        last[call.subject] = value
        if before is not None and memory.state.get("scheduled"):
            held = value != 0 or before != 0
            yield example_of(held, {}, call, f"{subject.argument} above 0", f"{subject.argument} 0 in two steps on end")
