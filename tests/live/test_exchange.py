"""Windows of all ranks come together through the store, in order, and nobody waits for a rank that is gone."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traincheck import exchange
from traincheck.events import Call, Context, Process, Record, Snapshot, Variable
from traincheck.exchange import FRESH_EVERY, SLOTS, Exchange, Group
from traincheck.parcel import Packer, Unpacker
from traincheck.relations.contract import Needs
from traincheck.vocabulary import AFTER, OPTIMIZER_STEP, PARAM, RANKS_PART
from traincheck.window import Window

NEEDS = Needs(frozenset({OPTIMIZER_STEP}), frozenset({(OPTIMIZER_STEP, AFTER, PARAM)}))


@dataclass
class FakeStore:
    """A store in memory. ``lost`` makes every use fail, as when its host has died."""

    values: dict[str, bytes] = field(default_factory=dict)
    lost: bool = False

    def set(self, key: str, value: bytes) -> None:
        self._used()
        self.values[key] = value

    def multi_get(self, keys: list[str]) -> list[bytes]:
        self._used()
        assert self.values.keys() >= set(keys), "a real store would wait here"
        return [self.values[key] for key in keys]

    def check(self, keys: list[str]) -> bool:
        self._used()
        return all(key in self.values for key in keys)

    def _used(self) -> None:
        if self.lost:
            raise RuntimeError("connection reset by peer")


@dataclass
class FakeClock:
    """A clock on which only sleep passes."""

    passed_s: float = 0.0

    def monotonic(self) -> float:
        return self.passed_s

    def sleep(self, duration_s: float) -> None:
        self.passed_s += duration_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """What the exchange takes for the time."""
    fake = FakeClock()
    monkeypatch.setattr(exchange, "time", fake)
    return fake


def window(rank: int, step: int, fingerprint: int = 7, world_size: int = 2, *, parts: bool = False) -> Window:
    process = Process(rank, world_size)
    variables = {"Net.weight": _variable("Net.weight")}
    records: list[Record] = [
        Call(1, 3, -1, OPTIMIZER_STEP, "torch.optim.sgd.SGD.step", "SGD", Context(), {"lr": 0.1}),
        Snapshot(2, 1, AFTER, PARAM, ("Net.weight",), (fingerprint,)),
        Call(4, 5, -1, "loss", "cross_entropy", "", Context()),
    ]
    if parts:
        records.append(Call(6, 7, -1, RANKS_PART, "torch.distributed.algorithms.Join.__exit__", "", Context()))
    return Window(step, process, records, variables)


def _variable(name: str) -> Variable:
    return Variable(
        name=name,
        kind=PARAM,
        shape=(2, 2),
        dtype="float32",
        trainable=True,
        optimizer="SGD",
        group="0",
        in_model=True,
        module="Linear",
        training=True,
        tied="",
    )


def ranks(store: FakeStore, count: int = 2) -> list[Exchange]:
    return [Exchange(Process(rank, count), NEEDS, lambda rank=rank: Group(store, rank, count)) for rank in range(count)]


def test_a_step_is_handed_on_with_its_peers_once_every_rank_ended_it() -> None:
    first, second = ranks(FakeStore())

    assert [] == first.submit(window(0, 0))
    assert 1 == len(second.submit(window(1, 0, fingerprint=8)))
    (joint,) = [each for each in first.submit(window(0, 1)) if each.step == 0]
    assert [0, 1] == [peer.process.rank for peer in joint.peers]
    snapshots = [peer.snapshot(peer.named(OPTIMIZER_STEP)[0], AFTER, PARAM) for peer in joint.peers]
    assert [(7,), (8,)] == [snapshot.hashes for snapshot in snapshots if snapshot is not None]


def test_when_the_others_were_faster_nothing_is_late_and_the_store_does_not_grow() -> None:
    store = FakeStore()
    first, *others = ranks(store, 4)

    for step in range(20):
        for rank, other in enumerate(others, start=1):
            other.submit(window(rank, step, world_size=4))
        assert [step] == [joint.step for joint in first.submit(window(0, step, world_size=4)) if len(joint.peers) == 4]
    assert 3 * SLOTS == len(store.values)
    assert 0 == first.skipped


def test_after_a_rank_ran_out_of_its_inputs_the_steps_are_not_brought_together_any_more() -> None:
    first, second = ranks(FakeStore())
    out = first.submit(window(0, 0))
    second.submit(window(1, 0))
    out += first.submit(window(0, 1, parts=True))
    for step in range(1, 4):
        second.submit(window(1, step))
    out += first.submit(window(0, 2)) + first.finish(timeout_s=0)

    assert [0, 1, 2] == [each.step for each in out]
    assert not any(each.peers for each in out if each.step)


def test_only_what_is_needed_travels() -> None:
    packer, unpacker = Packer(NEEDS), Unpacker(Process(1, 2))

    received = unpacker.unpack(packer.pack(window(1, 0)))

    assert {OPTIMIZER_STEP} == received.keys
    assert window(1, 0).variables == received.variables


@given(st.lists(st.booleans(), min_size=1, max_size=60))
@settings(max_examples=50)
def test_every_window_comes_out_once_and_in_order_whatever_the_timing(second_is_next: list[bool]) -> None:
    store = FakeStore()
    first, second = ranks(store)
    steps, out = [0, 0], []
    for is_second in second_is_next:
        rank = int(is_second)
        released = (first, second)[rank].submit(window(rank, steps[rank]))
        steps[rank] += 1
        assert len(store.values) <= SLOTS
        if rank == 0:
            out += released
    out += first.finish(timeout_s=0)

    assert list(range(steps[0])) == [each.step for each in out]
    assert all(each.peers == () or [each.step] * 2 == [peer.step for peer in each.peers] for each in out)
    assert first.skipped == sum(not each.peers for each in out)


def test_a_dead_rank_makes_steps_be_skipped_and_blocks_nobody(clock: FakeClock) -> None:
    first, second = ranks(FakeStore())
    second.submit(window(1, 0))

    out = [each for step in range(30) for each in first.submit(window(0, step))]
    assert clock.passed_s == 0
    out += first.finish(timeout_s=0.2)

    assert 0.2 <= clock.passed_s < 0.3
    assert list(range(30)) == [each.step for each in out]
    assert [0] == [each.step for each in out if each.peers]
    assert 29 == first.skipped


def test_what_a_rank_left_too_early_is_skipped_and_what_follows_is_understood_again() -> None:
    first, second = ranks(FakeStore())
    for step in range(SLOTS + 3):
        second.submit(window(1, step))
    late = [each for step in range(SLOTS + 3) for each in first.submit(window(0, step))]
    out = []
    for step in range(SLOTS + 3, 2 * FRESH_EVERY):
        second.submit(window(1, step))
        out += first.submit(window(0, step))

    assert not any(each.peers for each in late)
    assert list(range(2 * FRESH_EVERY)) == [each.step for each in late + out]
    joint = [each.step for each in out if each.peers]
    assert list(range(FRESH_EVERY, 2 * FRESH_EVERY)) == joint
    assert FRESH_EVERY == first.skipped


def test_a_rank_that_is_done_is_not_waited_for(clock: FakeClock) -> None:
    first, second = ranks(FakeStore())
    second.submit(window(1, 0))
    second.finish()
    first.submit(window(0, 0))
    first.submit(window(0, 1))

    assert [] != first.finish(timeout_s=5) or first.skipped
    assert clock.passed_s < 1


def test_a_second_process_group_begins_anew() -> None:
    first, second = ranks(FakeStore())
    for step in range(4):
        second.submit(window(1, step))
        first.submit(window(0, step))
        if step == 1:
            second.finish()
            first.finish()

    assert 0 == first.skipped


def test_a_lost_store_ends_the_exchange_and_nothing_else() -> None:
    store = FakeStore()
    first, second = ranks(store)
    store.lost = True

    assert [0] == [each.step for each in second.submit(window(1, 0))]
    released = first.submit(window(0, 0)) + first.submit(window(0, 1)) + first.finish()
    assert [0, 1] == [each.step for each in released]


def test_without_a_process_group_windows_pass_through() -> None:
    alone = Exchange(Process(), NEEDS, lambda: None)

    assert [3] == [each.step for each in alone.submit(window(0, 3))]


def test_what_is_not_a_parcel_ends_the_exchange() -> None:
    store = FakeStore()
    first, _ = ranks(store)
    store.values["0/1/0"] = b"what is this"

    released = first.submit(window(0, 0)) + first.submit(window(0, 1)) + first.finish()

    assert [0, 1] == [each.step for each in released]
