"""Pruning: an invariant that another one implies says nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from traincheck.invariant import Invariant
from traincheck.relations import by_name

_STRENGTH: Final = "how"
"""The subject field whose words imply each other (``Relation.implied_by``)."""


def implied(invariants: Sequence[Invariant]) -> dict[str, Invariant]:
    """For the id of each invariant that another one implies, that other one."""
    found: dict[str, Invariant] = {}
    for invariant in invariants:
        reason = _stronger(invariant, invariants) or _through(invariant, invariants) or _counted(invariant, invariants)
        if reason is not None:
            found[invariant.id] = reason
    return found


def _covers(strong: Invariant, weak: Invariant) -> bool:
    """Whether the first applies wherever the second does."""
    return strong.precondition.always or strong.precondition == weak.precondition


def _stronger(weak: Invariant, invariants: Sequence[Invariant]) -> Invariant | None:
    """The same subject with a stronger word: *every* implies *some*, *once* implies *at most once*."""
    words = by_name(weak.relation).implied_by.get(str(weak.subject.get(_STRENGTH)), ())
    for strong in invariants:
        same_relation = strong.relation == weak.relation and strong.subject.get(_STRENGTH) in words
        if same_relation and _but_strength(strong) == _but_strength(weak) and _covers(strong, weak):
            return strong
    return None


def _but_strength(invariant: Invariant) -> dict[str, object]:
    return {name: value for name, value in invariant.subject.items() if name != _STRENGTH}


def _through(weak: Invariant, invariants: Sequence[Invariant]) -> Invariant | None:
    """An order within a step that follows from two shorter ones."""
    if weak.relation != "APISequence" or weak.subject["how"] != "in step":
        return None
    orders = [other for other in invariants if other.relation == "APISequence" and other.subject["how"] == "in step"]
    for head in orders:
        if head.subject["first"] == weak.subject["first"] and head is not weak and _covers(head, weak):
            middle = head.subject["second"]
            for tail in orders:
                ends = tail.subject["first"] == middle and tail.subject["second"] == weak.subject["second"]
                if ends and _covers(tail, weak):
                    return tail
    return None


def _counted(weak: Invariant, invariants: Sequence[Invariant]) -> Invariant | None:
    """Something that happens exactly once per step also lies between two steps."""
    if weak.relation != "APISequence" or weak.subject["how"] != "between":
        return None
    for strong in invariants:
        if strong.relation != "Cadence" or strong.subject["how"] != "once" or not _covers(strong, weak):
            continue
        if (strong.subject["event"], strong.subject["per"]) == (weak.subject["first"], weak.subject["second"]):
            return strong
    return None
