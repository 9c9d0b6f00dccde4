"""Each call of a kind contains another event: a call, or a change of variables; for some, for every one, or never."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from traincheck.events import Call, Snapshot
from traincheck.relations import applied_gradients, circumstances, micro_batches
from traincheck.relations.contract import Example, Memory, Needs
from traincheck.values import Fields, Value
from traincheck.vocabulary import (
    AFTER,
    AUTOCAST,
    BACKWARD,
    BEFORE,
    BUFFER,
    CHECKPOINT_LOAD,
    DATA_NEXT,
    DROPOUT,
    FORWARD,
    GRAD,
    LR,
    OPTIMIZER_STEP,
    PARAM,
    PLURAL,
    ZERO_GRAD,
    one,
)
from traincheck.window import Window

How = Literal["some", "every", "never"]

CHANGE: Final = "change:"
"""Child prefix: a change of the variables of a kind."""
CLEAR: Final = "clear:"
"""Child prefix: variables of a kind that are absent or zero afterwards."""
ACTIVE: Final = "active:"
"""Child prefix: a call whose ``active`` argument is true."""
REUSE: Final = "reuse:"
"""Child prefix: an addition onto gradients that an optimizer step has already applied."""
USE: Final = "use:"
"""Child prefix: the application of gradients that a backward pass has computed."""
SUM: Final = "sum:"
"""Child prefix: the application of what every micro-batch computed."""

CHILDREN: Final[dict[str, tuple[tuple[str, How], ...]]] = {
    OPTIMIZER_STEP: (
        (CHANGE + PARAM, "some"),
        (CHANGE + PARAM, "every"),
        (CHANGE + PARAM, "never"),
        (USE + GRAD, "some"),
        (SUM + GRAD, "every"),
    ),
    ZERO_GRAD: ((CLEAR + GRAD, "every"),),
    BACKWARD: ((CHANGE + GRAD, "some"), (REUSE + GRAD, "never")),
    FORWARD: (
        (CHANGE + BUFFER, "every"),
        (CHANGE + BUFFER, "never"),
        (ACTIVE + DROPOUT, "some"),
        (ACTIVE + DROPOUT, "never"),
    ),
    CHECKPOINT_LOAD: ((CHANGE + PARAM, "some"),),
    AUTOCAST: ((OPTIMIZER_STEP, "never"),),
}
"""What the vocabulary allows to happen inside what. A closed list, so that every trace proposes the same."""


@dataclass(frozen=True, slots=True)
class Contain:
    """``parent`` contains ``child`` for ``how`` many."""

    parent: str
    child: str
    how: How


class EventContain:
    """Jiang et al., OSDI 2025, table 2. Containment is by interval, so selective recordings judge alike."""

    name: ClassVar[str] = "EventContain"
    subject_type: ClassVar[type] = Contain
    implied_by: ClassVar[dict[str, tuple[str, ...]]] = {"some": ("every",)}

    def propose(self, window: Window) -> Iterator[Contain]:
        for parent in window.keys:
            for child, how in CHILDREN.get(parent, ()):
                yield Contain(parent, child, how)
            if parent in window.functions:
                yield from (Contain(parent, child, "some") for child in _seen_inside(window, parent))

    def needs(self, subject: Contain) -> Needs:
        kind = subject.child.partition(":")[2]
        if subject.child.startswith(CHANGE):
            places = {(subject.parent, BEFORE, kind), (subject.parent, AFTER, kind)}
            if subject.parent == OPTIMIZER_STEP:
                places |= {(OPTIMIZER_STEP, AFTER, GRAD), (OPTIMIZER_STEP, BEFORE, LR)}
            return Needs(frozenset({subject.parent}), frozenset(places))
        if subject.child.startswith(REUSE):
            places = {(BACKWARD, BEFORE, GRAD), (BACKWARD, AFTER, GRAD), (OPTIMIZER_STEP, AFTER, GRAD)}
            return Needs(frozenset({BACKWARD, OPTIMIZER_STEP}), frozenset(places))
        if subject.child.startswith(SUM):
            return Needs(frozenset({BACKWARD, OPTIMIZER_STEP, ZERO_GRAD, DATA_NEXT, FORWARD}))
        if subject.child.startswith(USE):
            places = {(BACKWARD, BEFORE, GRAD), (BACKWARD, AFTER, GRAD), (OPTIMIZER_STEP, AFTER, GRAD)}
            return Needs(frozenset({BACKWARD, OPTIMIZER_STEP, ZERO_GRAD}), frozenset(places))
        if subject.child.startswith(CLEAR):
            return Needs(frozenset({subject.parent}), frozenset({(subject.parent, AFTER, kind)}))
        return Needs(frozenset({subject.parent, kind or subject.child}))

    def triggers(self, subject: Contain) -> frozenset[str]:
        return frozenset() if subject.child.startswith((REUSE, USE, SUM)) else frozenset({subject.parent})

    def examples(self, subject: Contain, window: Window, memory: Memory) -> Iterable[Example]:
        if subject.child.startswith(REUSE):
            yield from _reused(window, memory)
            return
        if subject.child.startswith(USE):
            yield from applied_gradients.examples(window, memory)
            return
        if subject.child.startswith(SUM):
            yield from micro_batches.examples(window, memory)
            return
        for call in window.named(subject.parent):
            if call.end < 0 or call.error:
                continue
            if subject.child.startswith(CHANGE):
                yield from _changes(subject, window, call)
            elif subject.child.startswith(CLEAR):
                yield from _cleared(subject, window, call)
            else:
                yield _contains(subject, window, call)

    def describe(self, subject: Contain) -> str:
        outer = one(subject.parent)
        kind = subject.child.partition(":")[2]
        if subject.child.startswith(CHANGE):
            what = {
                "some": f"changes at least one of the {PLURAL[kind]} it works on",
                "every": f"changes each of the {PLURAL[kind]} it works on",
                "never": f"leaves {'frozen ' if subject.parent == OPTIMIZER_STEP else ''}{PLURAL[kind]} unchanged",
            }[subject.how]
            return f"{outer} {what}"
        if subject.child.startswith(CLEAR):
            return f"after {outer}, each of the {PLURAL[kind]} it works on is absent or zero"
        if subject.child.startswith(REUSE):
            return (
                f"{outer} never adds to gradients that an optimizer step applied before and the next one applies again"
            )
        if subject.child.startswith(SUM):
            return f"{outer} applies the gradients of every micro-batch before it"
        if subject.child.startswith(USE):
            return f"{outer} applies gradients that the backward pass before it computed"
        inner = f"an active {kind}" if subject.child.startswith(ACTIVE) else one(subject.child)
        return f"{outer} {'never contains' if subject.how == 'never' else 'contains'} {inner}"


def _seen_inside(window: Window, function: str) -> list[str]:
    """What the first finished call of a project's function contained: an open vocabulary, so only what was seen."""
    first = next((call for call in window.named(function) if call.end >= 0), None)
    if first is None:
        return []
    inside = {call.role or call.api for call in window.calls if first.seq < call.seq and 0 <= call.end < first.end}
    return sorted(key for key in inside if key in window.functions or key in (OPTIMIZER_STEP, BACKWARD, FORWARD))


def _contains(subject: Contain, window: Window, call: Call) -> Example:
    active = subject.child.startswith(ACTIVE)
    key = subject.child.removeprefix(ACTIVE)
    found = [inner for inner in window.inside(call, key) if not active or inner.args.get("active") is True]
    context = circumstances.of_call(window, call)
    context["training"] = call.args.get("training")
    if active:
        context["has_dropout"] = any(inner.args.get("p") for inner in window.inside(call, key))
    if bool(found) == (subject.how == "some"):
        return Example(True, circumstances.frozen(context))
    names = tuple(dict.fromkeys(inner.subject or inner.api for inner in found)) or (call.subject,)
    what = f"active {key}" if active else one(key)
    return Example(
        False,
        circumstances.frozen(context),
        names,
        expected=f"{'no ' if subject.how == 'never' else ''}{what} within {call.subject or call.api}",
        seen=f"{len(found)} of them, in {', '.join(names[:3])}" if found else "none",
        api=call.api,
    )


def _cleared(subject: Contain, window: Window, call: Call) -> Iterator[Example]:
    snapshot = window.snapshot(call, AFTER, GRAD)
    if snapshot is None or not snapshot.names:
        return
    left = tuple(
        name
        for name, fingerprint, norm in zip(snapshot.names, snapshot.hashes, snapshot.values, strict=True)
        if fingerprint is not None and norm != 0
    )
    context = circumstances.frozen(circumstances.of_call(window, call))
    if left:
        yield Example(
            False, context, left, "no gradient left", f"{len(left)} gradients remain after it", call.api, len(left)
        )
    else:
        yield Example(True, context, count=len(snapshot.names))


def _changes(subject: Contain, window: Window, call: Call) -> Iterator[Example]:
    kind = subject.child.removeprefix(CHANGE)
    changed = window.changes(call, kind)
    if not changed or call.args.get("skipped"):
        return
    in_step = subject.parent == OPTIMIZER_STEP
    contexts = circumstances.of_parameters(window, call) if in_step else {}
    if subject.how == "some":
        yield _some(window, call, changed, contexts, kind)
        return
    shared = circumstances.frozen(_call_context(window, call))
    by_context: dict[tuple[Fields, bool], list[str]] = {}
    for name, moved in changed.items():
        context = contexts.get(name, shared)
        if in_step and subject.how == "never":
            if ("trainable", False) not in context:
                continue
            context = shared
        if in_step and subject.how == "every" and not circumstances.must_move(context):
            continue
        by_context.setdefault((context, moved), []).append(name)
    for (context, moved), names in by_context.items():
        held = moved == (subject.how == "every")
        if held:
            yield Example(True, context, count=len(names))
        else:
            expected = "changed" if subject.how == "every" else "unchanged"
            seen = f"{len(names)} of {len(changed)} {PLURAL[kind]} {'changed' if moved else 'stayed exactly the same'}"
            yield Example(False, context, tuple(names), expected, seen, call.api, len(names))


def _reused(window: Window, memory: Memory) -> Iterator[Example]:
    """An optimizer step that applies gradients to which a backward pass was added after they had been applied before.

    A gradient that another model's backward pass adds to and that is cleared before its own (a GAN) is no such case.
    """
    applied: dict[str, int | float | None] = memory.state.get("applied", {}) if window.follows else {}
    stale: set[str] = memory.state.get("stale", set()) if window.follows else set()
    for call in sorted(window.named(BACKWARD) + window.named(OPTIMIZER_STEP), key=lambda call: call.end):
        if call.role == BACKWARD:
            before, changed = window.snapshot(call, BEFORE, GRAD), window.changes(call, GRAD)
            if before is not None and changed is not None:
                present = _present(before)
                touched = {name for name, moved in changed.items() if moved}
                stale = {name for name in stale if name in present or name not in touched}
                stale |= {name for name in touched & present.keys() if present[name] == applied.get(name)}
            continue
        after = window.snapshot(call, AFTER, GRAD)
        if after is None or call.args.get("skipped"):
            continue
        held = _present(after)
        yield from _applied_again(window, call, held, stale, applied)
        applied = {**applied, **held}
    memory.state.update(applied=applied, stale=stale)


def _applied_again(
    window: Window, step: Call, held: Mapping[str, object], stale: set[str], applied: Mapping[str, object]
) -> Iterator[Example]:
    context = circumstances.frozen(circumstances.of_call(window, step))
    names = tuple(name for name in held if name in stale)
    if names:
        yield Example(
            False,
            context,
            names,
            "gradients of this step alone: cleared after the optimizer step that applied them",
            f"{len(names)} gradients still held what the last optimizer step applied, were added to and applied again",
            step.api,
            len(names),
        )
    elif any(name in applied for name in held):
        yield Example(True, context, count=len(held))


def _present(snapshot: Snapshot) -> dict[str, int | float | None]:
    norms = snapshot.values or (1.0,) * len(snapshot.names)
    return {
        name: fingerprint
        for name, fingerprint, norm in zip(snapshot.names, snapshot.hashes, norms, strict=True)
        if fingerprint is not None and norm != 0
    }


def _some(window: Window, call: Call, changed: dict[str, bool], contexts: dict[str, Fields], kind: str) -> Example:
    context = _call_context(window, call)
    own = changed
    if contexts:
        own = {name: moved for name, moved in changed.items() if ("own", True) in contexts.get(name, ())}
        known = [dict(fields) for fields in {contexts[name] for name in own}]
        moving = [fields for fields in known if fields["gradient"] == "normal"]
        context["some_gradient"] = bool(moving)
        context["some_lr"] = any(fields["lr"] == "normal" for fields in moving)
        context["low_precision"] = any(fields["low_precision"] for fields in known)
    if any(own.values()):
        return Example(True, circumstances.frozen(context))
    return Example(
        False,
        circumstances.frozen(context),
        tuple(own),
        expected=f"at least one of {len(own)} {PLURAL[kind]} changed",
        seen="none of them changed",
        api=call.api,
    )


def _call_context(window: Window, call: Call) -> dict[str, Value]:
    context = circumstances.of_call(window, call)
    if call.role == FORWARD:
        del context["stage"], context["grad_enabled"]
        context["training"] = call.args.get("training")
    return context
