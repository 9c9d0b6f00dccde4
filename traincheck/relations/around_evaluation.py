"""Training goes on from the weights that it had before an evaluation or a save.

What a program does to its weights in the training itself (it clips them, averages them, takes them back) is its own
affair; what it does only around an evaluation, and does not undo, is not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from traincheck.events import Call, Variable
from traincheck.relations import circumstances
from traincheck.relations.contract import Example, Memory
from traincheck.values import Fields
from traincheck.vocabulary import (
    AFTER,
    BEFORE,
    CHECKPOINT_LOAD,
    CHECKPOINT_SAVE,
    FORWARD,
    OPTIMIZER_STEP,
    TRAINER_LOAD,
)
from traincheck.window import Window

LOADS: Final = (CHECKPOINT_LOAD, TRAINER_LOAD)
MOST_REMEMBERED: Final = 64
"""So many states of a parameter are remembered to which a program may go back."""

Content = int | float | None


@dataclass(slots=True)
class _Pause:
    """What a program did between two optimizer steps."""

    looked: bool = False
    """Whether it evaluated or saved."""
    replaced: bool = False
    """Whether a framework put other weights in, as it was asked to."""
    loaded: dict[str, bool] = field(default_factory=dict)
    """Models that were loaded, and whether they were evaluated after that."""

    def add(self, call: Call) -> None:
        model = call.subject.partition(".")[0]
        if call.role == TRAINER_LOAD:
            self.replaced = True
        elif call.role == CHECKPOINT_LOAD:
            self.loaded[model] = False
        elif call.role == CHECKPOINT_SAVE:
            self.looked = True
        elif call.context.stage == "eval":
            self.looked = True
            if model in self.loaded:
                self.loaded[model] = True

    def on_purpose(self, model: str) -> bool:
        """Whether the last that was done to the model was to load it: what a resumed run or one that goes back does.

        A load that an evaluation follows may have been for that evaluation.
        """
        return self.replaced or self.loaded.get(model) is False


def examples(window: Window, memory: Memory) -> Iterator[Example]:
    """The parameters that this step trains, where the program evaluated or saved since the step before."""
    before = circumstances.parameters_at_step(window, BEFORE)
    last: dict[str, tuple[Content, object]] = memory.state.get("last", {})
    habit: dict[str, bool] = memory.state.setdefault("habit", {})
    states: dict[str, list[Content]] = memory.state.setdefault("states", {})
    memory.state["gapless"] = memory.state.get("gapless", True) and window.follows
    pause = _pause_before(window, memory)
    stepped = {step.subject for step in window.named(OPTIMIZER_STEP)}
    groups: dict[tuple[Fields, bool], list[str]] = {}
    for name, value in before.items():
        variable, model = window.variables.get(name), name.partition(".")[0]
        if variable is None or not variable.in_model or variable.optimizer not in stepped or not window.follows:
            continue
        then, holder = last.get(name, (None, None))
        if holder != _holder(variable):
            _remember(states, name, value)
            continue
        equal = value == then
        if not pause.looked:
            habit[name] = habit.get(name, False) or not (equal or pause.replaced)
            continue
        _remember(states, name, then)
        if pause.on_purpose(model):
            continue
        if model in pause.loaded and not equal and (not memory.state["gapless"] or value in states[name]):
            continue  # it goes back to a state of its own, as far as all of them are known
        if not equal and _has_twins(window, model):
            continue
        moves = habit.setdefault(name, not equal)
        context = circumstances.frozen({"trainable": variable.trainable, "moves_by_habit": moves})
        groups.setdefault((context, equal), []).append(name)
    now = circumstances.parameters_at_step(window, AFTER)
    if now:
        known = window.variables
        memory.state["last"] = {name: (value, _holder(known[name])) for name, value in now.items() if name in known}
    for (context, equal), names in groups.items():
        if equal:
            yield Example(True, context, count=len(names))
        else:
            seen = f"{len(names)} of {len(before)} parameters are not what they were before it"
            if names[0].partition(".")[0] in pause.loaded:
                seen += ": others were loaded for it, and nothing put the trained ones back"
            expected = "the same weights after an evaluation or a checkpoint as before it"
            yield Example(False, context, tuple(names), expected, seen, count=len(names))


def _pause_before(window: Window, memory: Memory) -> _Pause:
    """What happened since the last step of an earlier window; what comes after the steps of this one is kept.

    A load between the steps of several optimizers counts as one before them.
    """
    pause: _Pause = memory.state.get("pause") or _Pause()
    steps = window.named(OPTIMIZER_STEP)
    first, last = (steps[0].seq, steps[-1].seq) if steps else (math.inf, math.inf)
    after = _Pause()
    for call in sorted((call for key in (FORWARD, CHECKPOINT_SAVE, *LOADS) for call in window.named(key)), key=_place):
        if call.seq < first or (call.seq < last and call.role in LOADS):
            pause.add(call)
        elif call.seq > last:
            after.add(call)
    memory.state["pause"] = after if steps else pause
    return pause


def _has_twins(window: Window, model: str) -> bool:
    """Whether other models of the same make are trained too: they may hand each other weights, as clients do that
    train one model together."""
    known: set[str] | None = window.memo.get("twins")
    if known is None:
        makes: dict[str, set[tuple[str, tuple[int, ...]]]] = {}
        for variable in window.variables.values():
            if variable.optimizer and variable.in_model:
                label, _, path = variable.name.partition(".")
                makes.setdefault(label, set()).add((path, variable.shape))
        often = Counter(map(frozenset, makes.values()))
        known = window.memo["twins"] = {label for label, make in makes.items() if often[frozenset(make)] > 1}
    return model in known


def _place(call: Call) -> int:
    return call.seq


def _remember(states: dict[str, list[Content]], name: str, value: Content) -> None:
    held = states.setdefault(name, [])
    if value not in held:
        held.append(value)
        del held[:-MOST_REMEMBERED]


def _holder(variable: Variable) -> tuple[str, tuple[int, ...]]:
    """What stays the same as long as it is the same parameter of the same optimizer."""
    return variable.optimizer, variable.shape
