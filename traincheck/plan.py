"""The recording plan: which calls and snapshots a recording keeps, so that all that must be judged can be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from traincheck.events import Process, Record
from traincheck.relations.contract import Needs
from traincheck.vocabulary import (
    AFTER,
    BACKWARD,
    BEFORE,
    BUFFER,
    CHECKPOINT_LOAD,
    DATA_ITER,
    DATA_NEXT,
    FORWARD,
    GRAD,
    LR,
    LR_STEP,
    OPTIMIZER_LOAD,
    OPTIMIZER_STATE,
    OPTIMIZER_STEP,
    PARAM,
    RANKS_PART,
    RNG,
    ROUNDED,
    SCALER_STEP,
    ZERO_GRAD,
)

FULL_SNAPSHOTS: Final = frozenset(
    {
        (OPTIMIZER_STEP, BEFORE, PARAM),
        (OPTIMIZER_STEP, AFTER, PARAM),
        (OPTIMIZER_STEP, BEFORE, LR),
        (OPTIMIZER_STEP, BEFORE, ROUNDED),
        (OPTIMIZER_STEP, AFTER, GRAD),
        (OPTIMIZER_STEP, AFTER, OPTIMIZER_STATE),
        (OPTIMIZER_STEP, AFTER, RNG),
        (BACKWARD, BEFORE, GRAD),
        (BACKWARD, AFTER, GRAD),
        (ZERO_GRAD, AFTER, GRAD),
        (FORWARD, BEFORE, BUFFER),
        (FORWARD, AFTER, BUFFER),
        (LR_STEP, BEFORE, LR),
        (LR_STEP, AFTER, LR),
        (CHECKPOINT_LOAD, BEFORE, PARAM),
        (CHECKPOINT_LOAD, AFTER, PARAM),
        (OPTIMIZER_LOAD, AFTER, OPTIMIZER_STATE),
    }
)
"""Every place at which a full recording looks at variables: ``(key of the call, point, kind)``."""

ONLY_CHANGES: Final = frozenset({(BACKWARD, AFTER, GRAD)})
"""Where relations ask no more than what changed within the call: what was not there before it need not be read."""

WITHOUT_NORMS: Final = frozenset({(BACKWARD, AFTER)})
"""Where only the content of gradients is looked at: relations read their norms at the step that applies them."""

SPINE: Final = frozenset(
    {
        DATA_ITER,
        DATA_NEXT,
        FORWARD,
        BACKWARD,
        SCALER_STEP,
        OPTIMIZER_STEP,
        ZERO_GRAD,
        LR_STEP,
        CHECKPOINT_LOAD,
        RANKS_PART,
    }
)
"""Calls that every recording keeps: a handful per step, and contexts of examples are read off them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record. ``needs is None`` is a full recording: every role, every snapshot, the project's functions."""

    needs: Needs | None = None
    modules: tuple[str, ...] = ()
    """Functions of these packages are recorded too, beside those of the user's own project (full recordings)."""

    @staticmethod
    def for_needs(needs: Iterable[Needs]) -> Plan:
        """The least that serves all of ``needs``."""
        union = Needs()
        for need in needs:
            union = union | need
        return Plan(needs=union)

    def wants_call(self, key: str) -> bool:
        """Whether calls of this role (or API name, without a role) are recorded."""
        return self.needs is None or key in SPINE or key in self.needs.calls

    def wants_snapshot(self, key: str, point: str, kind: str) -> bool:
        """Whether variables of ``kind`` are looked at ``before`` or ``after`` calls of this role."""
        place = (key, point, kind)
        return place in (FULL_SNAPSHOTS if self.needs is None else self.needs.snapshots)

    def reads_added(self, key: str, point: str, kind: str) -> bool:
        """Whether the content of variables is read there that did not exist before the call."""
        return self.needs is None or (key, point, kind) not in ONLY_CHANGES

    def wants_norms(self, key: str, point: str) -> bool:
        """Whether the norms of gradients are measured ``before`` or ``after`` calls of this role."""
        return (key, point) not in WITHOUT_NORMS and (self.needs is None or self.needs.reads_norms())

    def wants_detail(self, *names: str) -> bool:
        """Whether any of these :data:`traincheck.vocabulary.DETAILS` is read by anybody."""
        return self.needs is None or not self.needs.details.isdisjoint(names)


class Interruption(Exception):
    """What a sink raises to end the program on purpose (``on_violation="raise"``): recording lets only this through."""


class Sink(Protocol):
    """Where the records of one process go: a trace writer, or a live checker."""

    def add(self, record: Record) -> None:
        """Take the next record. Only an :class:`Interruption` reaches the program."""

    def close(self) -> None:
        """The run has ended; nothing follows."""


class OpenSink(Protocol):
    """Makes the sink of this process, once something worth recording happens in it."""

    def __call__(self, process: Process) -> Sink: ...
