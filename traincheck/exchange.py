"""Brings the windows of one step from all ranks together while they train, out of band and without anyone waiting.

Each rank leaves what relations across ranks read of its step in the store of the process group, in one of a few slots
that it fills in turn: it sends, and waits for no answer. The lowest rank asks once, whenever a step of its own ends,
for what is next of every rank, and hands on its window together with its peers, at most one step late. No collective
is used, only the end of the run waits, and a slow or dead rank makes steps be skipped, no more.
"""

from __future__ import annotations

import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from traincheck.events import Process
from traincheck.parcel import Packer, Unpacker
from traincheck.relations.contract import Needs
from traincheck.vocabulary import RANKS_PART
from traincheck.window import Window

SLOTS: Final = 8
"""So many steps of a rank may wait in the store, and so many of the lowest rank for the others; more are skipped."""

FRESH_EVERY: Final = 64
"""So often a rank says everything again: the lowest one may have missed what was said before."""

FINISH_S: Final = 2.0
"""How long the end of the run waits for the last steps of the other ranks."""

POLL_S: Final = 0.01
PREFIX: Final = "traincheck"
DONE: Final = b""
"""What a rank leaves after its last step."""
_HEAD: Final = struct.Struct("<qq")
"""What stands before each parcel: its number, and its step."""


class Store(Protocol):
    """What is used of ``torch.distributed.Store``. A lost store raises ``RuntimeError``."""

    def set(self, key: str, value: bytes, /) -> object: ...
    def multi_get(self, keys: list[str], /) -> list[bytes]: ...
    def check(self, keys: list[str], /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train together, seen from one of them."""

    store: Store
    rank: int
    world_size: int


def default_group() -> Group | None:
    """The default process group of torch; ``None`` while there is none.

    The store is looked up anew for each use: keeping it would keep its port open after the program closed it.
    """
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    store = distributed.PrefixStore(PREFIX, distributed.distributed_c10d._get_default_store())
    return Group(store, distributed.get_rank(), distributed.get_world_size())


@dataclass
class _Peer:
    """Another rank, as the lowest one knows it."""

    unpacker: Unpacker
    received: int = 0
    """How many parcels of it were taken, or missed: the number of the next one."""
    latest: int = -1
    """The latest step that was taken, or missed."""
    done: bool = False
    windows: dict[int, Window] = field(default_factory=dict)

    def lacks(self, step: int) -> bool:
        """Whether nothing more will come for this step."""
        return step not in self.windows and (self.done or self.latest > step)

    def take(self, slot: bytes) -> bool:
        """Take what is in the slot of the next parcel; ``False`` while that is still an older one."""
        (number, step), parcel = _HEAD.unpack_from(slot), slot[_HEAD.size :]
        if number < self.received:
            return False
        if number > self.received:  # it was overwritten; the one after it may be there still
            self.received = number - SLOTS + 1
            self.unpacker.forget()
            return True
        self.received += 1
        if parcel == DONE:
            self.done = True
            return True
        self.latest = step
        window = self.unpacker.unpack(parcel)
        if window is not None:
            self.windows[step] = window
        return True


class Exchange:
    """One rank's end. Windows go in as their steps end and come out, in the same order, when they may be judged."""

    def __init__(self, process: Process, needs: Needs, group: Callable[[], Group | None] = default_group) -> None:
        self._process = process
        self._needs = needs
        self._group = group
        self._packer = Packer(needs)
        self._sent = 0
        self._generation = 0
        self._held: deque[Window] = deque()
        self._peers: dict[int, _Peer] = {}
        self._lost = False
        self._apart = False
        self.skipped = 0
        """Steps whose windows the ranks could not bring together."""

    def submit(self, window: Window) -> list[Window]:
        """Take the window of the step that ended; returns those that may be judged now."""
        if self._needs == Needs():
            return [window]
        group = self._reachable()
        if not self._apart and window.named(RANKS_PART):
            self._apart = True
            if group is not None and group.rank != 0:
                self._contained(lambda: self._publish(group, DONE))
        if group is None or self._apart:
            self.skipped += group is not None
            return [*self._release_all(), window]
        if group.rank != 0:
            self._contained(lambda: self._publish(group, self._packed(window), window.step))
            return [window]
        self._held.append(window)
        self._contained(lambda: self._poll(group))
        return self._release(group)

    def finish(self, timeout_s: float = FINISH_S) -> list[Window]:
        """The run, or the process group, ends: wait a bounded time for the last steps, then give up what is missing."""
        group = self._reachable()
        released = [] if group is None else self._last_ones(group, timeout_s)
        released += self._release_all()
        self._begin_anew()
        return released

    def _last_ones(self, group: Group, timeout_s: float) -> list[Window]:
        if group.rank != 0:
            self._contained(lambda: self._publish(group, DONE))
            return []
        deadline = time.monotonic() + timeout_s
        released = self._release(group)
        while self._held and not self._lost and time.monotonic() < deadline:
            self._contained(lambda: self._poll(group))
            released += self._release(group)
            time.sleep(POLL_S)
        return released

    def _begin_anew(self) -> None:
        """A later process group may use the same store: its keys are others."""
        self._generation += 1
        self._packer.forget()
        self._sent = 0
        self._peers.clear()

    def _reachable(self) -> Group | None:
        if self._lost:
            return None
        group = self._group()
        return group if group is not None and group.world_size > 1 else None

    def _contained(self, action: Callable[[], None]) -> None:
        """A store that is gone, or that holds what we cannot read, ends the exchange and nothing else."""
        try:
            action()
        except (RuntimeError, ValueError, OSError, struct.error):
            self._lost = True

    def _packed(self, window: Window) -> bytes:
        if self._sent % FRESH_EVERY == 0:
            self._packer.forget()
        return self._packer.pack(window)

    def _publish(self, group: Group, parcel: bytes, step: int = -1) -> None:
        group.store.set(self._slot(group.rank, self._sent), _HEAD.pack(self._sent, step) + parcel)
        self._sent += 1

    def _slot(self, rank: int, number: int) -> str:
        return f"{self._generation}/{rank}/{number % SLOTS}"

    def _poll(self, group: Group) -> None:
        """Take the next parcel of every rank, and further ones of those that are more than one step behind."""
        for rank in range(1, group.world_size):
            if rank not in self._peers:
                peer = Process(rank, group.world_size, 0, self._process.framework, self._process.versions)
                self._peers[rank] = _Peer(Unpacker(peer))
        waiting = {rank: peer for rank, peer in self._peers.items() if not peer.done}
        while waiting:
            slots = {rank: self._slot(rank, peer.received) for rank, peer in waiting.items()}
            filled = self._filled(group.store, slots)
            found = group.store.multi_get([slots[rank] for rank in filled]) if filled else []
            taken = [rank for rank, slot in zip(filled, found, strict=True) if waiting[rank].take(slot)]
            waiting = {rank: waiting[rank] for rank in taken if self._is_behind(waiting[rank])}

    def _filled(self, store: Store, slots: Mapping[int, str]) -> list[int]:
        """The ranks whose slots hold anything: once filled, they always do. To ask for others would be to wait."""
        unsure = [rank for rank in slots if self._peers[rank].received < SLOTS]
        if not unsure or store.check([slots[rank] for rank in unsure]):
            return list(slots)
        late = len(self._held) > 2
        empty = [rank for rank in unsure if not (late and len(unsure) > 1 and store.check([slots[rank]]))]
        return [rank for rank in slots if rank not in empty]

    def _is_behind(self, peer: _Peer) -> bool:
        return not peer.done and len(self._held) > 1 and peer.latest < self._held[-2].step

    def _release(self, group: Group) -> list[Window]:
        released = []
        peers = [self._peers[rank] for rank in sorted(self._peers)]
        while self._held and not self._lost:
            window = self._held[0]
            if len(peers) == group.world_size - 1 and all(window.step in peer.windows for peer in peers):
                window.peers = (window, *(peer.windows[window.step] for peer in peers))
            elif len(self._held) <= SLOTS and not any(peer.lacks(window.step) for peer in peers):
                break
            else:
                self.skipped += 1
            released.append(self._held.popleft())
            for peer in peers:
                peer.windows = {step: kept for step, kept in peer.windows.items() if step > window.step}
        return released

    def _release_all(self) -> list[Window]:
        released = list(self._held)
        self._held.clear()
        self.skipped += len(released)
        return released
