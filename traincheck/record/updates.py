"""Optimizer steps that a framework takes itself, on shards or copies of the parameters that its optimizer was given.

torch's own hooks see the inner optimizer then, with tensors that no model has. The framework's adapter says which
parameters are updated, what it knows of their gradients, and whether the step was applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import fingerprints, norms
from traincheck.record.session import Session
from traincheck.values import Value
from traincheck.vocabulary import AFTER, BEFORE, GRAD, OPTIMIZER_STEP, PASSED_OVER

Held = tuple[tuple[Tensor, Tensor | None], ...]
"""Parameters, each with what this process holds of its gradient."""


@dataclass(slots=True)
class _Running:
    call: OpenCall | None
    names: tuple[str, ...]
    hashes: tuple[int | None, ...]
    lengths: tuple[float | None, ...]


class Updates:
    """The optimizer steps of one engine, told to the session that records it."""

    def __init__(
        self,
        session: Session,
        api: str,
        optimizer: Optimizer,
        groups: Sequence[Sequence[Tensor]],
        held: Callable[[], Held],
    ) -> None:
        """``groups`` are the model's parameters that ``optimizer`` updates, one sequence for each of its groups."""
        self._session = session
        self._api = api
        self._optimizer = optimizer
        self._held = held
        self._running: _Running | None = None
        session.models.stand_for(optimizer, groups)

    def begins(self) -> None:
        """The step is about to be taken; the gradients are there."""
        session, optimizer = self._session, self._optimizer
        session.activity()
        session.describe()
        label = session.models.add_optimizer(optimizer)
        rates = [float(group.get("lr", 0.0)) for group in optimizer.param_groups]
        described: dict[str, Value] = {"closure": False, "lr": max(rates, default=0.0)}
        call = session.open(OPTIMIZER_STEP, self._api, label, described)
        session.snapshots.params(call, BEFORE, lambda: session.models.trained_by(optimizer))
        session.snapshots.rates(call, BEFORE, optimizer)
        self._running = self._with_gradients(call)

    def _with_gradients(self, call: OpenCall | None) -> _Running:
        if not self._session.snapshots.wanted(call, AFTER, GRAD):
            return _Running(call, (), (), ())
        known = [(self._session.models.name_of(param), grad) for param, grad in self._held()]
        grads = [grad for _, grad in known]
        return _Running(call, tuple(name for name, _ in known), tuple(fingerprints(grads)), tuple(norms(grads)))

    def ends(self, *, applied: bool, error: BaseException | None = None) -> None:
        """The step was taken, or left out for an overflow."""
        session, running, self._running = self._session, self._running, None
        session.steps.stepped()
        if running is None or running.call is None:
            return
        call = running.call
        if not applied:
            call.args["skipped"] = True
        if call.recorded:
            call.out = {"lr_positive": bool(call.args["lr"])}
            if running.names:
                call.out["grads"] = _presence(running.hashes)
            question = session.unheld.passed_over
            call.args.update(session.answer([PASSED_OVER], "parameters", question, self._optimizer, session.step))
        session.snapshots.params(call, AFTER, lambda: session.models.trained_by(self._optimizer))
        session.snapshots.given(call, AFTER, GRAD, running.names, running.hashes, running.lengths)
        session.finish(call, error)


def _presence(hashes: tuple[int | None, ...]) -> str:
    present = [fingerprint is not None for fingerprint in hashes]
    return "none" if not any(present) else "all" if all(present) else "some"
