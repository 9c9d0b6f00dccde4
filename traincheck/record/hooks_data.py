"""Batches: which loader gives them, in which order, with which content; and where one begins a new step."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import data
from torch.utils.data import _utils as data_utils
from torch.utils.data import dataloader, distributed, sampler

from traincheck.record.arguments import qualified, size
from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import batch_fingerprint, lengths, tensors_in
from traincheck.record.patching import Arguments, Hook
from traincheck.record.steps import STEP_LIMIT
from traincheck.record.worker_seeds import WorkerSeeds
from traincheck.values import Value
from traincheck.vocabulary import DATA_ITER, DATA_NEXT, DATA_SET_EPOCH

if TYPE_CHECKING:
    from traincheck.record.session import Session

_RANDOM = (sampler.RandomSampler, sampler.SubsetRandomSampler, sampler.WeightedRandomSampler)


@dataclass(slots=True)
class _Pass:
    """One pass over a loader."""

    loader: str
    epoch: int
    facts: dict[str, Value]
    """What is known of the loader: ``shuffled``, ``batches``, ``batch_size``."""
    index: int = 0
    fetches: int | None = None
    """How many there are in it, asked once; ``-1`` when only trying tells."""


@dataclass(slots=True)
class _Fetch:
    call: OpenCall | None
    source: _Pass
    training: bool
    closes: bool


class DataHooks:
    """Records ``data.iter``, ``data.next`` and ``data.set_epoch``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._passes: weakref.WeakKeyDictionary[Any, _Pass] = weakref.WeakKeyDictionary()
        self._epochs: dict[str, int] = {}
        self._unstepped = 0
        """Batches of steps that are left out, since an optimizer stepped."""
        self.seeds = WorkerSeeds(session.boundary)

    def iter_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        loader = args[0]
        label = self._session.loaders.label(loader, type(loader).__name__)
        described = {**_facts(loader), "num_workers": loader.num_workers}
        if loader.num_workers:
            self.seeds.pass_begins(label, self._epochs.get(label, 0))
        return self._session.open(DATA_ITER, f"{qualified(type(loader))}.__iter__", label, described)

    def iter_ends(
        self, call: OpenCall | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        label = self._session.loaders.label(args[0], type(args[0]).__name__)
        if error is None:
            epoch = self._epochs.get(label, 0)
            self._epochs[label] = epoch + 1
            self._passes[result] = _Pass(label, epoch, _facts(args[0]))
        self._session.finish(call, error)

    def passes_over(self, args: tuple[Any, ...]) -> bool:
        """Whether it is a batch of a step that is left out, to train on as those before it; it is counted here."""
        session, steps, source = self._session, self._session.steps, self._passes.get(args[0])
        if source is None or not (
            steps.feeds(source.loader) and torch.is_grad_enabled() and _has_more(args[0], source)
        ):
            return False
        if session.contexts.stated_stage() is not None or (session.automatic() and not self._may_pass_on()):
            return False
        source.index += 1
        session.gate.fed = True
        return True

    def _may_pass_on(self) -> bool:
        """Whether the step that this batch ends, if it does, and the next one are left out."""
        session = self._session
        if session.steps.closes_at_fetch(training=True):
            self._unstepped = 0
            return session.passes_on()
        self._unstepped += 1
        return self._unstepped < STEP_LIMIT  # after so many, backward passes have to be counted

    def next_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Fetch:
        session, source = self._session, self._pass(args[0])
        session.gate.fed = False
        more, training = _has_more(args[0], source), self._training(source)
        closes = session.automatic() and session.steps.closes_at_fetch(training) and more is not False
        if closes and more:
            session.end_window()
            closes = False
        return _Fetch(self._opened(source), source, training, closes)

    def next_ends(
        self, fetch: _Fetch | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        if fetch is None:
            return
        session, source, call = self._session, fetch.source, fetch.call
        if error is None:
            call = self._fetched(fetch, result)
        elif isinstance(error, StopIteration):
            session.steps.ran_out(source.loader)
        session.finish(call, error)

    def _fetched(self, fetch: _Fetch, batch: Any) -> OpenCall | None:
        session, source, call = self._session, fetch.source, fetch.call
        if fetch.closes:
            call = self._reopened(fetch)
        source.index += 1
        session.steps.fetched(source.loader, fetch.training, session.contexts.moment())
        if call is not None and call.recorded:
            call.context = session.contexts.now()
            call.out = {
                "hash": session.boundary.run("batches", batch_fingerprint, batch),
                "size": _samples(batch, source.facts.get("batch_size")),
                **(session.boundary.run("worker seeds", self.seeds.heard) or {}),
            }
        return call

    def _reopened(self, fetch: _Fetch) -> OpenCall | None:
        """The fetch of a loader without a length proved to begin a step: it belongs to the step that begins."""
        session = self._session
        if fetch.call is not None:
            fetch.call.recorded = False
            session.finish(fetch.call)
        session.end_window()
        return self._opened(fetch.source)

    def _opened(self, source: _Pass) -> OpenCall | None:
        if not self._session.recording:
            return None
        described: dict[str, Value] = {"index": source.index, "epoch": source.epoch, **source.facts}
        return self._session.open(DATA_NEXT, "torch.utils.data.DataLoader.__next__", source.loader, described)

    def _training(self, source: _Pass) -> bool:
        session = self._session
        return session.steps.is_training_fetch(
            source.loader, session.contexts.moment(), session.contexts.stated_stage()
        )

    def _pass(self, iterator: Any) -> _Pass:
        known = self._passes.get(iterator)
        if known is None:  # the pass began before the session
            known = self._passes[iterator] = _Pass(self._session.loaders.label(iterator, "DataLoader"), 0, {})
        return known

    def epoch_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        epoch = args[1] if len(args) > 1 else kwargs.get("epoch")
        label = type(args[0]).__name__
        return self._session.open(DATA_SET_EPOCH, f"{qualified(type(args[0]))}.set_epoch", label, {"epoch": epoch})

    def epoch_ends(
        self, call: OpenCall | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        self._session.finish(call, error)

    def worker_adapts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Runs in the worker, before anything else does."""
        return self.seeds.in_worker(args, kwargs)

    def worker_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._session.sleep()

    def worker_ends(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        """Nothing: the worker process ends here."""


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into loaders, samplers and worker processes."""
    hooks, wrap = DataHooks(session), session.patches.wrap
    wrap(data.DataLoader, "__iter__", Hook(DATA_ITER, hooks.iter_begins, hooks.iter_ends))
    fetch = Hook(DATA_NEXT, hooks.next_begins, hooks.next_ends, passes_over=hooks.passes_over)
    wrap(dataloader._BaseDataLoaderIter, "__next__", fetch)
    wrap(
        data_utils.worker,
        "_worker_loop",
        Hook("data worker", hooks.worker_begins, hooks.worker_ends, hooks.worker_adapts),
    )
    if session.wants(DATA_SET_EPOCH):
        hook = Hook(DATA_SET_EPOCH, hooks.epoch_begins, hooks.epoch_ends)
        wrap(distributed.DistributedSampler, "set_epoch", hook)
    return [hooks.seeds.close]


def _samples(batch: Any, asked: Value) -> int | None:
    """How many samples a batch holds: the number asked for where anything in it is that long, else its first length."""
    tensors = list(tensors_in(batch))
    if asked in lengths(batch) or (tensors and all(t.dim() > 1 and t.shape[1] == asked for t in tensors)):
        return asked if isinstance(asked, int) else None
    return size(next(iter(tensors), None))


def _facts(loader: Any) -> dict[str, Value]:
    return {"shuffled": _shuffled(loader), "batches": _length(loader), "batch_size": loader.batch_size}


def _shuffled(loader: Any) -> bool | None:
    order = _order(loader)
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        return None
    if isinstance(order, _RANDOM):
        return True
    if isinstance(order, distributed.DistributedSampler):
        return bool(order.shuffle)
    return False if isinstance(order, sampler.SequentialSampler) else None


def _order(loader: Any) -> Any:
    """The sampler of single samples. Accelerate puts batch samplers around the program's, to share them out."""
    batches = loader.batch_sampler
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    return loader.sampler if batches is None else getattr(batches, "sampler", None)


def _length(loader: Any) -> int | None:
    """Number of batches; ``None`` when the loader cannot tell."""
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        return None
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def _has_more(iterator: Any, source: _Pass) -> bool | None:
    """Whether the next fetch gives a batch; ``None`` when only trying tells."""
    if source.fetches is None:
        source.fetches = _fetches(iterator)
    return None if source.fetches < 0 else bool(iterator._num_yielded < source.fetches)


def _fetches(iterator: Any) -> int:
    if iterator._dataset_kind != dataloader._DatasetKind.Map:
        return -1
    try:
        return len(iterator._index_sampler)
    except (TypeError, NotImplementedError):
        return -1
