"""A window as a few kilobytes that one rank sends to another: of its records, what is needed there.

Lists of variable names and the table of variables are sent once, and again when they change.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from traincheck.events import Call, Process, Record, Snapshot, Variable, VariableTable
from traincheck.relations.contract import Needs
from traincheck.trace.rows import COLUMNS, RowReader, to_row
from traincheck.window import Window

MAX_NAMES: Final = 64
"""So many lists of names are remembered; then both ends begin anew."""

SMALL_BYTES: Final = 16_384
"""Shorter ones travel as they are: to press them would take longer."""

_PRESSED: Final = b"x"
"""How a pressed one begins; the others are JSON objects."""

_NAMES: Final = [name for name, _ in COLUMNS].index("names")


class Packer:
    """The sending end."""

    def __init__(self, needs: Needs) -> None:
        self._calls = needs.calls | {key for key, _, _ in needs.snapshots}
        self._snapshots = needs.snapshots
        self._fresh = True
        self._names: dict[tuple[str, ...], int] = {}
        self._variables: Mapping[str, Variable] | None = None

    def pack(self, window: Window) -> bytes:
        """The parcel for this window."""
        if len(self._names) > MAX_NAMES:
            self.forget()
        fresh, self._fresh = self._fresh, False
        known = len(self._names)
        rows = [self._row(record, window.step) for record in self._needed(window)]
        message = {
            "step": window.step,
            "follows": window.follows,
            "final": window.final,
            "fresh": fresh,
            "names": list(self._names)[known:],
            "rows": rows,
        }
        text = json.dumps(message, separators=(",", ":")).encode()
        return text if len(text) < SMALL_BYTES else zlib.compress(text, 1)

    def forget(self) -> None:
        """The next parcel says everything again."""
        self._fresh = True
        self._names.clear()
        self._variables = None

    def _needed(self, window: Window) -> Iterator[Record]:
        if window.variables is not self._variables:
            self._variables = window.variables
            yield VariableTable(0, tuple(window.variables.values()))
        keys = {call.seq: call.role or call.api for call in window.calls}
        yield from (call for call in window.calls if keys[call.seq] in self._calls)
        for snapshot in window.snapshots:
            if (keys.get(snapshot.call, ""), snapshot.point, snapshot.kind) in self._snapshots:
                yield snapshot

    def _row(self, record: Record, step: int) -> list[Any]:
        row = list(to_row(record, step))
        if isinstance(record, Snapshot):
            row[_NAMES] = self._names.setdefault(record.names, len(self._names))
        return row


class Unpacker:
    """The receiving end, for the parcels of one process in the order in which they were packed."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._reader = RowReader()
        self._names: list[list[str]] = []
        self._variables: dict[str, Variable] = {}
        self._missed = False

    def forget(self) -> None:
        """Parcels were missed: what comes is understood from the next one on that says everything again."""
        self._missed = True

    def unpack(self, parcel: bytes) -> Window | None:
        """The window; ``None`` while it cannot be understood. Raises ``ValueError`` on anything that is no parcel."""
        try:
            message = json.loads(zlib.decompress(parcel) if parcel.startswith(_PRESSED) else parcel)
            if message["fresh"]:
                self._names, self._missed = [], False
            if self._missed:
                return None
            self._names += message["names"]
            records = [self._reader.record(self._cells(row)) for row in message["rows"]]
            window = (int(message["step"]), bool(message["follows"]), bool(message["final"]))
        except (zlib.error, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"not a window of another rank: {error!r}") from error
        tables = [record for record in records if isinstance(record, VariableTable)]
        if tables:
            self._variables = {variable.name: variable for variable in tables[-1].variables}
        kept = [record for record in records if isinstance(record, (Call, Snapshot))]
        step, follows, final = window
        return Window(step, self._process, kept, self._variables, follows=follows, final=final)

    def _cells(self, row: list[Any]) -> tuple[Any, ...]:
        if row[_NAMES] is not None:
            row[_NAMES] = self._names[row[_NAMES]]
        return tuple(row)
