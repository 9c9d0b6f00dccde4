"""What a relation is: five answers about a template over descriptors.

``propose``: what could be true here? ``needs``: what must be recorded to judge it? ``triggers``: which windows need not
be looked at? ``examples``: each occasion, held or not, with its context. ``describe``: the sentence that a user reads.
``examples`` is the only statement of when a relation holds: inference splits examples into passing and failing and
looks for a precondition between them, checking reports failing ones whose precondition applied, online and offline
alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from traincheck.values import Fields
from traincheck.vocabulary import GRAD
from traincheck.window import Window

SubjectT = TypeVar("SubjectT")


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be recorded to judge a hypothesis exactly."""

    calls: frozenset[str] = frozenset()
    """Roles, or API names of calls without one."""
    snapshots: frozenset[tuple[str, str, str]] = frozenset()
    """``(key of the call, point, kind of variable)``, for example ``("optimizer.step", "after", "param")``."""
    norms: bool = True
    """Whether the norms of gradients are read, and not only their content."""
    details: frozenset[str] = frozenset()
    """Which of :data:`traincheck.vocabulary.DETAILS` are read."""

    def __or__(self, other: Needs) -> Needs:
        norms = self.reads_norms() or other.reads_norms()
        return Needs(self.calls | other.calls, self.snapshots | other.snapshots, norms, self.details | other.details)

    def reads_norms(self) -> bool:
        """Whether there is a norm that is read."""
        return self.norms and any(kind == GRAD for _, _, kind in self.snapshots)


@dataclass(slots=True)
class Example:
    """One occasion on which a hypothesis held (passing) or did not (failing); thousands a second, so not frozen."""

    held: bool
    context: Fields
    """What a precondition may speak about. Few distinct values each: evidence counts distinct contexts."""
    names: tuple[str, ...] = ()
    """On failure: the variables, calls or ranks concerned, most telling first."""
    expected: str = ""
    seen: str = ""
    api: str = ""
    """On failure: concrete name of the call at which it shows."""
    count: int = 1
    """How many variables this example stands for."""


@dataclass
class Memory:
    """What a relation keeps from window to window for one subject and one process: small and bounded."""

    state: dict[Any, Any] = field(default_factory=dict)


class Relation(Protocol[SubjectT]):
    """A relation over windows. Stateless and final; a subject is a frozen dataclass of plain values."""

    name: ClassVar[str]
    subject_type: ClassVar[type]
    implied_by: ClassVar[dict[str, tuple[str, ...]]]
    """For each value of the subject's last word (``how``) the values that imply it: such duplicates are pruned."""

    def propose(self, window: Window) -> Iterable[SubjectT]:
        """Every subject that this window triggers, whether it holds here or not."""

    def needs(self, subject: SubjectT) -> Needs:
        """What ``examples`` reads."""

    def triggers(self, subject: SubjectT) -> frozenset[str]:
        """Words (:attr:`Window.words`) without any of which a window has no example and leaves the memory as it is.

        Empty: each window may have one.
        """

    def examples(self, subject: SubjectT, window: Window, memory: Memory) -> Iterable[Example]:
        """Each occasion in this window, held or not."""

    def describe(self, subject: SubjectT) -> str:
        """The subject as one plain sentence, without the precondition and without a full stop."""
