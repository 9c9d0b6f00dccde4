"""Brings the windows of one step from all ranks together while they train, out of band and without anyone waiting.

Each rank leaves what relations across ranks read of its step in the store of the process group. The lowest rank picks
up what is there whenever a step of its own ends, and hands on its window together with its peers, at most one step
late. No collective is used, only the end of the run waits, and a slow or dead rank makes steps be skipped, no more.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from traincheck.events import Process
from traincheck.parcel import Packer, Unpacker
from traincheck.relations.contract import Needs
from traincheck.vocabulary import RANKS_PART
from traincheck.window import Window

MAX_OUTSTANDING: Final = 8
"""So many steps of a rank may wait in the store, and so many of the lowest rank for the others; more are skipped."""

FINISH_S: Final = 2.0
"""How long the end of the run waits for the last steps of the other ranks."""

POLL_S: Final = 0.01
PREFIX: Final = "traincheck"
DONE: Final = b""
"""What a rank leaves after its last step."""


class Store(Protocol):
    """What is used of ``torch.distributed.Store``. A lost store raises ``RuntimeError``."""

    def set(self, key: str, value: bytes, /) -> object: ...
    def get(self, key: str, /) -> bytes: ...
    def check(self, keys: list[str], /) -> bool: ...
    def delete_key(self, key: str, /) -> bool: ...


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
    latest: int = -1
    done: bool = False
    windows: dict[int, Window] = field(default_factory=dict)

    def lacks(self, step: int) -> bool:
        """Whether nothing more will come for this step."""
        return step not in self.windows and (self.done or self.latest > step)


class Exchange:
    """One rank's end. Windows go in as their steps end and come out, in the same order, when they may be judged."""

    def __init__(self, process: Process, needs: Needs, group: Callable[[], Group | None] = default_group) -> None:
        self._process = process
        self._needs = needs
        self._group = group
        self._packer = Packer(needs)
        self._sent: deque[str] = deque()
        self._sent_count = 0
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
            self._contained(lambda: self._publish(group, self._packer.pack(window)))
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
        self._sent.clear()
        self._sent_count = 0
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
        except (RuntimeError, ValueError, OSError):
            self._lost = True

    def _publish(self, group: Group, parcel: bytes) -> None:
        while self._sent and not group.store.check([self._sent[0]]):
            self._sent.popleft()
        if len(self._sent) >= MAX_OUTSTANDING and parcel != DONE:
            self._packer.forget()
            return
        key = self._key(group.rank, self._sent_count)
        group.store.set(key, parcel)
        self._sent.append(key)
        self._sent_count += 1

    def _key(self, rank: int, number: int) -> str:
        return f"{self._generation}/{rank}/{number}"

    def _poll(self, group: Group) -> None:
        for rank in range(1, group.world_size):
            if rank not in self._peers:
                peer = Process(rank, group.world_size, 0, self._process.framework, self._process.versions)
                self._peers[rank] = _Peer(Unpacker(peer))
        late = len(self._held) > 2
        while waiting := {rank: peer for rank, peer in self._peers.items() if not peer.done}:
            keys = {rank: self._key(rank, peer.received) for rank, peer in waiting.items()}
            if group.store.check(list(keys.values())):
                present: Iterable[int] = keys
            elif late and len(keys) > 1:
                present = [rank for rank, key in keys.items() if group.store.check([key])]
            else:
                return
            if not present:
                return
            for rank in present:
                self._take(group.store, keys[rank], waiting[rank])

    def _take(self, store: Store, key: str, peer: _Peer) -> None:
        parcel = store.get(key)
        store.delete_key(key)
        peer.received += 1
        if parcel == DONE:
            peer.done = True
            return
        window = peer.unpacker.unpack(parcel)
        peer.latest = window.step
        peer.windows[window.step] = window

    def _release(self, group: Group) -> list[Window]:
        released = []
        peers = [self._peers[rank] for rank in sorted(self._peers)]
        while self._held and not self._lost:
            window = self._held[0]
            if len(peers) == group.world_size - 1 and all(window.step in peer.windows for peer in peers):
                window.peers = (window, *(peer.windows[window.step] for peer in peers))
            elif len(self._held) <= MAX_OUTSTANDING and not any(peer.lacks(window.step) for peer in peers):
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
