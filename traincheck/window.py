"""A window: one training step with all that was recorded of it. It is what relations look at."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, Final

from traincheck.events import Call, Process, Record, Snapshot, Variable, VariableTable
from traincheck.vocabulary import AFTER, BEFORE, LR, OPTIMIZER_STEP

_BY_POSITION: Final = attrgetter("seq")

PEERS: Final = "(peers)"
"""The word of windows that know the other ranks."""


class Window:
    """The records of one step of one process, with the look-ups that relations share.

    Calls are those that were entered in this step; a call that is still open when the step ends (the user's ``main``)
    is among them with ``end == -1``. Everything is in order of ``seq``.
    """

    def __init__(
        self,
        step: int,
        process: Process,
        records: Iterable[Record],
        variables: Mapping[str, Variable],
        *,
        follows: bool = True,
        final: bool = False,
        tables: Sequence[tuple[int, Mapping[str, Variable]]] = (),
    ) -> None:
        self.step = step
        self.process = process
        self.variables = variables
        """As the last optimizer step left them."""
        self._tables = tables
        self.follows = follows
        """Whether the step before this one was recorded too: relations that compare steps abstain otherwise."""
        self.final = final
        """Whether this is the rest of a run after its last complete step."""
        self.peers: Sequence[Window] = ()
        """The windows of this step on all ranks, in order of rank, on the one of the lowest rank; empty on the others
        and where other ranks are not known. Relations across ranks speak only where it is set."""
        self.memo: dict[Hashable, Any] = {}
        """What relations worked out about this window and share: contexts of variables, for example."""
        ordered = sorted(records, key=_BY_POSITION)
        # A call that was announced before it ran comes again once it has ended: that one counts.
        calls = {record.seq: record for record in ordered if isinstance(record, Call)}
        self.calls: tuple[Call, ...] = tuple(calls.values())
        self.snapshots: tuple[Snapshot, ...] = tuple(record for record in ordered if isinstance(record, Snapshot))

    @cached_property
    def _by_key(self) -> dict[str, list[Call]]:
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.role or call.api, []).append(call)
        return found

    @cached_property
    def _by_place(self) -> dict[tuple[int, str, str], Snapshot]:
        return {(snapshot.call, snapshot.point, snapshot.kind): snapshot for snapshot in self.snapshots}

    @cached_property
    def keys(self) -> frozenset[str]:
        """The roles, and for calls without one the API names, that occur in this window."""
        return frozenset(self._by_key)

    @property
    def words(self) -> frozenset[str]:
        """What there is in this window: its keys, the stages, the names of arguments and outputs, and :data:`PEERS`."""
        found = set(self._by_key)
        for call in self.calls:
            found.add(call.context.stage)
            found.update(call.args, call.out)
        if self.peers:
            found.add(PEERS)
        return frozenset(found)

    @cached_property
    def functions(self) -> frozenset[str]:
        """The functions of the user's project that were called in this window, by API name."""
        return frozenset(call.api for call in self.calls if not call.role)

    def named(self, key: str) -> list[Call]:
        """The calls that play the role ``key``, or whose API name it is, in order of entry."""
        return self._by_key.get(key, [])

    def inside(self, outer: Call, key: str) -> Iterator[Call]:
        """The calls of ``key`` that began and ended within ``outer``, at any depth.

        Containment is by interval, not by parent, so that leaving calls out of a recording does not change it.
        """
        return (call for call in self.named(key) if outer.seq < call.seq and call.end < outer.end and call.end >= 0)

    def snapshot(self, call: Call, point: str, kind: str) -> Snapshot | None:
        """The variables of ``kind`` as they were ``before`` or ``after`` the call; ``None`` when not recorded."""
        return self._by_place.get((call.seq, point, kind))

    def variables_at(self, call: Call) -> Mapping[str, Variable]:
        """The variables as they were when ``call`` began: optimizers may step in turn, the others frozen."""
        return next((table for seq, table in reversed(self._tables) if seq <= call.seq), self.variables)

    def changes(self, call: Call, kind: str) -> dict[str, bool] | None:
        """For each variable of ``kind`` whether the call changed it; ``None`` when that was not recorded.

        A variable that is known at only one of the two moments is left out.
        """
        key = ("changes", call.seq, kind)
        if key not in self.memo:
            self.memo[key] = self._compared(self.snapshot(call, BEFORE, kind), self.snapshot(call, AFTER, kind))
        found: dict[str, bool] | None = self.memo[key]
        return found

    @staticmethod
    def _compared(before: Snapshot | None, after: Snapshot | None) -> dict[str, bool] | None:
        if before is None or after is None:
            return None
        now = content(after)
        return {name: then != now[name] for name, then in content(before).items() if name in now}


def content(snapshot: Snapshot) -> dict[str, int | float | None]:
    """What the snapshot holds, by variable: the fingerprint, or the number itself for a learning rate."""
    if snapshot.kind == LR:
        return dict(zip(snapshot.names, snapshot.values, strict=True))
    return dict(zip(snapshot.names, snapshot.hashes, strict=True))


class WindowBuilder:
    """Groups the records of one process, fed in the order in which they were written, into windows."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._records: list[Record] = []
        self._variables: dict[str, Variable] = {}
        self._tables: list[tuple[int, dict[str, Variable]]] = []
        self._previous_recorded = True
        self._next_step = 0

    def add(self, record: Record) -> Window | None:
        """Take one record. The end of a recorded step returns its window."""
        if isinstance(record, (Call, Snapshot)):
            self._records.append(record)
            return None
        if isinstance(record, VariableTable):
            self._variables = {variable.name: variable for variable in record.variables}
            self._tables.append((record.seq, self._variables))
            return None
        self._next_step = record.step + 1
        records, self._records = self._records, []
        follows, self._previous_recorded = self._previous_recorded, record.recorded
        if not record.recorded:
            return None
        tables, self._tables = self._tables, [(-1, self._variables)]
        variables = self._at_last_step(records, tables)
        return Window(record.step, self.process, records, variables, follows=follows, tables=tables)

    def _at_last_step(
        self, records: Iterable[Record], tables: Sequence[tuple[int, Mapping[str, Variable]]]
    ) -> Mapping[str, Variable]:
        """The variables as the last optimizer step left them: what a load changes after it belongs to the next step."""
        if len(tables) < 2:
            return self._variables
        ends = [record.end for record in records if isinstance(record, Call) and record.role == OPTIMIZER_STEP]
        last = max(ends, default=-1)
        return next((table for seq, table in reversed(tables) if seq <= last), self._variables)

    def rest(self) -> Window | None:
        """What came after the last complete step, as a window of its own; ``None`` when there is nothing."""
        if not self._records:
            return None
        records, self._records = self._records, []
        variables = self._at_last_step(records, self._tables)
        return Window(
            self._next_step,
            self.process,
            records,
            variables,
            follows=self._previous_recorded,
            final=True,
            tables=self._tables,
        )


def windows(process: Process, records: Iterable[Record]) -> Iterator[Window]:
    """The windows of a whole trace of one process, in order."""
    builder = WindowBuilder(process)
    for record in records:
        window = builder.add(record)
        if window is not None:
            yield window
    rest = builder.rest()
    if rest is not None:
        yield rest
