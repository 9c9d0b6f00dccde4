"""With which random state each loader worker starts, told to the process that trains through a file without a name.

A worker looks at its generators after it was seeded, and again after its first batch: only those that were used in
between count. Looking does not advance them. Workers that are not forked cannot reach the file and tell nothing.
"""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Final

from torch.utils.data import _utils as data_utils
from torch.utils.data import dataloader

from traincheck.record.boundary import Boundary
from traincheck.record.patching import Arguments
from traincheck.record.snapshots import generator_states
from traincheck.values import Value

MOST_STARTS: Final = 4096

_SIGNATURE = inspect.signature(data_utils.worker._worker_loop)


@dataclass(frozen=True, slots=True)
class _Start:
    """One worker of one pass, with the state of a generator that it used."""

    loader: str
    epoch: int
    worker: int
    generator: str
    state: int


@dataclass
class WorkerSeeds:
    """Both ends: what workers tell, and what is made of it."""

    boundary: Boundary
    _file: IO[bytes] | None = None
    _pid: int = 0
    _place: int = 0
    _pass: tuple[str, int] = ("", 0)
    _known: dict[tuple[str, str, int], _Start] = field(default_factory=dict)

    def pass_begins(self, loader: str, epoch: int) -> None:
        """Workers may be forked now, for this pass over this loader."""
        if self._file is None or self._pid != os.getpid():
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the session
            self._pid, self._place = os.getpid(), 0
        self._pass = (loader, epoch)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def in_worker(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """The arguments of a worker's loop, with functions in it that tell the random states as well."""
        given = _SIGNATURE.bind(*args, **kwargs)
        names = given.arguments
        if self._file is None or names.get("dataset_kind") != dataloader._DatasetKind.Map:
            return args, kwargs
        start: dict[str, int] = {}
        names["init_fn"] = self._seeding(names.get("init_fn"), start)
        names["collate_fn"] = self._collating(names["collate_fn"], start, names["worker_id"])
        return given.args, given.kwargs

    def _seeding(self, init: Callable[[int], Any] | None, start: dict[str, int]) -> Callable[[int], None]:
        def seed(worker: int) -> None:
            if init is not None:
                init(worker)
            start.update(self.boundary.run("worker seeds", generator_states) or {})

        return seed

    def _collating(self, collate: Callable[[Any], Any], start: dict[str, int], worker: int) -> Callable[[Any], Any]:
        def collated(samples: Any) -> Any:
            batch = collate(samples)
            if start:
                self.boundary.run("worker seeds", self._tell, start, worker)
                start.clear()
            return batch

        return collated

    def _tell(self, start: dict[str, int], worker: int) -> None:
        now = generator_states()
        used = {name: state for name, state in start.items() if now.get(name) != state}
        if self._file is not None:
            os.write(self._file.fileno(), json.dumps([*self._pass, worker, used]).encode() + b"\n")

    def heard(self) -> dict[str, Value]:
        """What workers have told since the last time: how many start as another one did, in this pass or before."""
        starts = self._read()
        if not starts:
            return {}
        equal, repeated = [], []
        for start in starts:
            earlier = self._known.setdefault((start.loader, start.generator, start.state), start)
            if earlier.epoch == start.epoch and earlier.worker != start.worker:
                equal.append(f"workers {earlier.worker} and {start.worker} ({start.generator})")
            elif earlier.epoch != start.epoch:
                repeated.append(f"worker {start.worker} ({start.generator})")
        while len(self._known) > MOST_STARTS:
            del self._known[next(iter(self._known))]
        return {
            "equal_workers": len(equal),
            "equal_workers_example": equal[0] if equal else "",
            "repeated_workers": len(repeated),
            "repeated_workers_example": repeated[0] if repeated else "",
        }

    def _read(self) -> list[_Start]:
        if self._file is None or self._pid != os.getpid():
            return []
        told = os.pread(self._file.fileno(), 1 << 20, self._place)
        whole = told[: told.rfind(b"\n") + 1]
        self._place += len(whole)
        reports = (json.loads(line) for line in whole.splitlines())
        return [
            _Start(loader, epoch, worker, generator, state)
            for loader, epoch, worker, used in reports
            for generator, state in used.items()
        ]
