"""Events of one kind occur so many times per event of another: as often as the last time, once, or at most once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from traincheck.relations import circumstances
from traincheck.relations.contract import Example, Memory, Needs
from traincheck.vocabulary import (
    BACKWARD,
    DATA_ITER,
    DATA_NEXT,
    FORWARD,
    GRAD_CLIP,
    LR_STEP,
    OPTIMIZER_STEP,
    SCALER_STEP,
    SCALER_UPDATE,
    ZERO_GRAD,
    noun,
    one,
)
from traincheck.window import Window

How = Literal["once", "at most once", "steady"]

PAIRS: Final[tuple[tuple[str, str, tuple[How, ...]], ...]] = (
    (BACKWARD, OPTIMIZER_STEP, ("steady",)),
    (FORWARD, OPTIMIZER_STEP, ("steady",)),
    (DATA_NEXT, OPTIMIZER_STEP, ("steady",)),
    (ZERO_GRAD, OPTIMIZER_STEP, ("steady",)),
    (GRAD_CLIP, OPTIMIZER_STEP, ("steady",)),
    (LR_STEP, OPTIMIZER_STEP, ("once", "at most once", "steady")),
    (SCALER_UPDATE, OPTIMIZER_STEP, ("once", "steady")),
    (DATA_NEXT, DATA_ITER, ("steady",)),
    (OPTIMIZER_STEP, DATA_ITER, ("steady",)),
    (OPTIMIZER_STEP, LR_STEP, ("once", "steady")),
)
"""``(event, per, hows)``. Numbers are mostly a program's own settings: only their steadiness can be a law."""


@dataclass(frozen=True, slots=True)
class Count:
    """``event`` occurs ``how`` often from one ``per`` to the next."""

    event: str
    per: str
    how: How


class Cadence:
    """Ours: the pace of schedulers, accumulation and passes.

    Transformers issues 33455 and 23986, accelerate issue 1050.
    """

    name: ClassVar[str] = "Cadence"
    subject_type: ClassVar[type] = Count
    implied_by: ClassVar[dict[str, tuple[str, ...]]] = {"at most once": ("once",), "steady": ("once",)}

    def propose(self, window: Window) -> Iterator[Count]:
        for event, per, hows in PAIRS:
            if per in window.keys:
                for how in hows:
                    yield Count(event, per, how)

    def needs(self, subject: Count) -> Needs:
        return Needs(frozenset({subject.event, subject.per}))

    def triggers(self, subject: Count) -> frozenset[str]:
        return frozenset()

    def examples(self, subject: Count, window: Window, memory: Memory) -> Iterable[Example]:
        """Counts run from just after one ``per`` to the next and start at the first ``per`` of the run.

        Each object counts for itself: two optimizers that step in turn are two cadences of the same kind. A single
        double count fails no *at most once*: a program may leave out one step (an overflow) and count on. For the same
        reason *steady* fails only once another pace was kept for two counts on end.
        """
        since: Counter[str] = memory.state.setdefault("since", Counter())
        counted: dict[str, dict[str, int]] = memory.state.setdefault("counted", {})
        usual: dict[tuple[str, str], int] = memory.state.setdefault("usual", {})
        latest: dict[tuple[str, str], int] = memory.state.setdefault("latest", {})
        if not window.follows:
            counted.clear()
        ended = circumstances.pass_ended(window)
        # A gradient scaler may leave the optimizer step out; the program counts on.
        per = SCALER_STEP if subject.per == OPTIMIZER_STEP and window.named(SCALER_STEP) else subject.per
        found = (call for key in (subject.event, per) for call in window.named(key) if circumstances.of_training(call))
        calls = sorted(found, key=lambda call: call.seq)
        for call in calls:
            if (call.role or call.api) == subject.event:
                since[call.subject] += 1
                continue
            last = counted.get(call.subject)
            counted[call.subject] = dict(since)
            if last is None or not since:
                continue
            # What an optimizer does itself is counted by its own steps, not by those of another one.
            counted_here = (call.subject,) if call.subject in since else tuple(since)
            numbers = {name: since[name] - last.get(name, 0) for name in counted_here}
            label, number = _telling(numbers)
            before = usual.get((call.subject, label))
            last_number = latest.get((call.subject, label))
            latest[call.subject, label] = number
            if subject.how != "steady":
                held = _held(subject.how, number, last_number)
            elif before is None:
                usual[call.subject, label] = number
                continue
            else:
                held = number == before or number != last_number
                usual[call.subject, label] = before if held else number
            context = circumstances.of_cycle(window, call)
            context["pass_ended"] = ended or memory.state.get("ended", False)
            expected = (
                f"{before} per {subject.per}, as before"
                if subject.how == "steady"
                else f"{subject.how} per {subject.per}"
            )
            if held:
                yield Example(True, circumstances.frozen(context))
            else:
                seen = f"{number} of {label or subject.event}"
                yield Example(False, circumstances.frozen(context), (label or call.subject,), expected, seen, call.api)
        memory.state["ended"] = ended

    def describe(self, subject: Count) -> str:
        event, per = noun(subject.event), noun(subject.per)
        if subject.how == "steady":
            return f"{one(subject.event)} happens as often per {per} as before"
        return f"there is {'exactly' if subject.how == 'once' else 'at most'} one {event} per {per}"


def _held(how: How, number: int, before: int | None) -> bool:
    """Too many counts when it happens twice on end: a step that the program left out doubles one count."""
    return number == 1 if how == "once" else min(number, number if before is None else before) <= 1


def _telling(numbers: dict[str, int]) -> tuple[str, int]:
    """The object whose number is told: the one that it happened to most often."""
    label = max(sorted(numbers), key=lambda name: numbers[name])
    return label, numbers[label]
