"""Snapshots: the content of variables at the border of a call, where the plan asks for it."""

from __future__ import annotations

import array
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
import xxhash
from torch import Tensor
from torch.optim import Optimizer

from traincheck.events import Record, Snapshot
from traincheck.plan import Plan
from traincheck.record.boundary import Boundary
from traincheck.record.calls import Calls, OpenCall
from traincheck.record.fingerprints import fingerprints, norms, unseen
from traincheck.record.models import Models, Owned, Tree
from traincheck.record.table import learning_rates
from traincheck.vocabulary import AFTER, BEFORE, BUFFER, GRAD, LR, OPTIMIZER_STATE, PARAM, RNG, ROUNDED

_FULL = (torch.float32, torch.float64)
_LOW = (torch.bfloat16, torch.float16)
ADDED: Final = 1
"""Stands for the fingerprint of what a call added, where only that is asked."""


class Snapshots:
    """Takes snapshots, and gives them to ``emit``."""

    def __init__(
        self, plan: Plan, models: Models, calls: Calls, emit: Callable[[Record], None], boundary: Boundary
    ) -> None:
        self._plan = plan
        self._models = models
        self._calls = calls
        self._emit = emit
        self._boundary = boundary
        self._before: tuple[int, tuple[str, ...], list[int | None]] = (-1, (), [])
        """The latest gradients that were looked at before a call: the call, their names and their content."""

    def wanted(self, call: OpenCall | None, point: str, kind: str) -> bool:
        """Whether variables of ``kind`` are looked at there."""
        return call is not None and call.recorded and self._plan.wants_snapshot(call.role, point, kind)

    def params(self, call: OpenCall | None, point: str, owned: Callable[[], list[Owned]]) -> None:
        """Content of parameters."""
        if call is not None and self.wanted(call, point, PARAM):
            self._boundary.run(f"snapshots of {PARAM}", self._take, call, point, PARAM, owned)

    def grads(self, call: OpenCall | None, point: str, owned: Callable[[], list[Owned]]) -> None:
        """Content and L2 norm of the gradients of parameters."""
        if call is not None and self.wanted(call, point, GRAD):
            self._boundary.run(f"snapshots of {GRAD}", self._grads, call, point, owned)

    def _grads(self, call: OpenCall, point: str, owned: Callable[[], list[Owned]]) -> None:
        _, names, params = self._models.listed(owned())
        grads = [param.grad for param in params]
        lengths = norms(grads) if self._plan.wants_norms(call.role, point) else ()
        hashes = self._hashes(call, point, names, grads)
        if point == BEFORE:
            self._before = (call.seq, names, hashes)
        self._put(call, point, GRAD, names, hashes, lengths)

    def _hashes(
        self, call: OpenCall, point: str, names: tuple[str, ...], grads: Sequence[Tensor | None]
    ) -> list[int | None]:
        before, known_names, hashes = self._before
        comparable = point == AFTER and before == call.seq and known_names == names
        if not comparable or self._plan.reads_added(call.role, point, GRAD):
            return fingerprints(grads)
        was = [known is not None for known in hashes]
        read = iter(fingerprints([grad for grad, known in zip(grads, was, strict=True) if known]))
        return [
            next(read) if known else None if grad is None else ADDED for grad, known in zip(grads, was, strict=True)
        ]

    def buffers(self, call: OpenCall | None, point: str, tree: Tree | None) -> None:
        """Content of a model's buffers."""
        if call is not None and tree is not None and tree.buffers and self.wanted(call, point, BUFFER):
            self._boundary.run(f"snapshots of {BUFFER}", self._take, call, point, BUFFER, lambda: tree.buffers)

    def optimizer_state(self, call: OpenCall | None, point: str, optimizer: Optimizer) -> None:
        """Content of what an optimizer keeps for each parameter."""
        if call is not None and self.wanted(call, point, OPTIMIZER_STATE):
            self._boundary.run(f"snapshots of {OPTIMIZER_STATE}", self._optimizer_state, call, point, optimizer)

    def _optimizer_state(self, call: OpenCall, point: str, optimizer: Optimizer) -> None:
        entries = [
            (f"{owned.name}/{key}", value)
            for owned in self._models.held_by(optimizer)
            for key, value in optimizer.state.get(owned.tensor, {}).items()
        ]
        names = [name for name, value in entries if _has_content(value)]
        values = [value for _, value in entries if _has_content(value)]
        digests = fingerprints([value if isinstance(value, Tensor) else None for value in values])
        for position, value in enumerate(values):
            if not isinstance(value, Tensor):
                digests[position] = xxhash.xxh3_64_intdigest(repr(float(value)).encode())
        self._put(call, point, OPTIMIZER_STATE, names, digests)

    def masters(self, call: OpenCall | None, point: str, optimizer: Optimizer) -> None:
        """Content of the optimizer's parameters that no model has, rounded to what a model of low precision holds."""
        if call is not None and self.wanted(call, point, ROUNDED):
            self._boundary.run(f"snapshots of {ROUNDED}", self._masters, call, point, optimizer)

    def _masters(self, call: OpenCall, point: str, optimizer: Optimizer) -> None:
        held = self._models.held_by(optimizer)
        masters = [owned for owned in held if not self._models.name_of(owned.tensor) and owned.tensor.dtype in _FULL]
        if not masters:
            return
        held_ids = {id(owned.tensor) for owned in held}
        low = (owned.tensor for owned in self._models.params() if id(owned.tensor) not in held_ids)
        types = {tensor.shape: tensor.dtype for tensor in low if tensor.dtype in _LOW}
        pairs = [(owned.name, owned.tensor) for owned in masters if owned.tensor.shape in types]
        with unseen():
            rounded = [tensor.to(types[tensor.shape]) for _, tensor in pairs]
        if pairs:
            self._put(call, point, ROUNDED, [name for name, _ in pairs], fingerprints(rounded))

    def rates(self, call: OpenCall | None, point: str, optimizer: Optimizer | None) -> None:
        """Learning rate of each group."""
        if call is not None and optimizer is not None and self.wanted(call, point, LR):
            names, values = learning_rates(optimizer, self._models.add_optimizer(optimizer))
            self._put(call, point, LR, names, [None] * len(names), values)

    def generators(self, call: OpenCall | None, point: str) -> None:
        """State of the random-number generators."""
        if call is not None and self.wanted(call, point, RNG):
            states = generator_states()
            self._put(call, point, RNG, list(states), list(states.values()))

    def _take(self, call: OpenCall, point: str, kind: str, owned: Callable[[], list[Owned]]) -> None:
        _, names, tensors = self._models.listed(owned())
        # ZeRO-3 leaves a parameter empty where it is not at work, with the shard of this rank beside it.
        self._put(call, point, kind, names, fingerprints([getattr(tensor, "ds_tensor", tensor) for tensor in tensors]))

    def given(
        self,
        call: OpenCall,
        point: str,
        kind: str,
        names: Sequence[str],
        hashes: Sequence[int | None],
        values: Sequence[float | None],
    ) -> None:
        """Content that was looked at elsewhere."""
        if names and self.wanted(call, point, kind):
            self._put(call, point, kind, names, hashes, values)

    def _put(
        self,
        call: OpenCall,
        point: str,
        kind: str,
        names: Sequence[str],
        hashes: Sequence[int | None],
        values: Sequence[float | None] = (),
    ) -> None:
        seq = self._calls.next_seq()
        self._emit(Snapshot(seq, call.seq, point, kind, tuple(names), tuple(hashes), tuple(values)))


def generator_states() -> dict[str, int]:
    """A fingerprint of each generator's state. Reading it does not advance it."""
    version, words, gauss = random.getstate()
    python = xxhash.xxh3_64_intdigest(array.array("Q", words).tobytes() + repr((version, gauss)).encode())
    (torch_state,) = fingerprints([torch.default_generator.get_state()])
    found = {"torch": torch_state or 0, "python": python}
    numpy_random = getattr(sys.modules.get("numpy"), "random", None)
    if numpy_random is not None:
        _, keys, position, has_gauss, cached = numpy_random.get_state()
        found["numpy"] = xxhash.xxh3_64_intdigest(keys.tobytes() + repr((position, has_gauss, cached)).encode())
    return found


def _has_content(value: Any) -> bool:
    return isinstance(value, (Tensor, int, float))
