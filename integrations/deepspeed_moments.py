"""The moments of a DeepSpeed engine, told in the training vocabulary. Nothing is judged here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from deepspeed.runtime.engine import DeepSpeedEngine
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from traincheck.record import Session
from traincheck.record.hooks_optimizer import ZeroGradHooks
from traincheck.record.loop import Loop
from traincheck.record.patching import Hook
from traincheck.record.updates import Held, Updates
from traincheck.vocabulary import GRAD_RESTART, TRAINER_PREPARE, ZERO_GRAD

FRAMEWORK: Final = "deepspeed"
API: Final = "deepspeed.DeepSpeedEngine"
GROUPS: Final = ("bit16_groups", "bf16_groups", "fp16_groups")
"""Where DeepSpeed's optimizers keep the model's parameters, after they gave shards or copies to the inner one."""

PLAIN: Final = (bool, int, float, str, tuple)
OWN: Final = ("_", "ds_", "training")
"""How attributes begin that are not the user's."""


def attach(session: Session, framework: Any) -> None:
    """Have every engine of this process, now and later, tell ``session`` its steps."""
    EngineMoments(session).install()


class EngineMoments:
    """Tells one session what DeepSpeed engines do."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loop: Loop | None = None
        self._updates: WeakKeyDictionary[Any, Updates | None] = WeakKeyDictionary()

    def install(self) -> None:
        """Hook into the engine's class. What is patched is put back when the session ends."""
        wrap = self._session.patches.wrap
        wrap(DeepSpeedEngine, "__init__", Hook(f"{API}.__init__", self._prepare_begins, self._prepare_ends))
        wrap(DeepSpeedEngine, "_backward_epilogue", Hook(f"{API}.backward", self._nothing, self._backward_ends))
        wrap(DeepSpeedEngine, "_take_model_step", Hook(f"{API}.step", self._update_begins, self._update_ends))
        wrap(DeepSpeedEngine, "step", Hook(f"{API}.global_step", self._step_begins, self._step_ends))
        clearing = ZeroGradHooks(self._session)
        wrap(DeepSpeedEngine, "zero_grad", Hook(ZERO_GRAD, clearing.begins, clearing.ends, passive=True))

    @property
    def _inside(self) -> dict[Any, int]:
        return self._session.calls.thread.inside

    def _nothing(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        return

    def _prepare_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        given = {**dict(zip(("args", "model", "optimizer"), args[1:], strict=False)), **kwargs}
        model, optimizer = given.get("model"), given.get("optimizer")
        # ZeRO takes a step without gradients to have the optimizer's state made.
        self._inside[TRAINER_PREPARE] = 1
        if isinstance(model, Module) and isinstance(optimizer, Optimizer):
            self._session.watch(model, optimizer)
            self._session.activity()
        before = dict(_attributes(model)) if isinstance(model, Module) else {}
        foreign = _foreign(model, optimizer)
        if foreign:
            # DeepSpeed fails over these with a KeyError: the cause is said first.
            self._session.tell(TRAINER_PREPARE, f"{API}.__init__", type(model).__name__, {}, {"foreign": foreign})
        return before

    def _prepare_ends(
        self, before: dict[str, Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        self._inside[TRAINER_PREPARE] = 0
        if error is not None:
            return
        self._updates[args[0]] = self._updates_of(args[0])
        after = dict(_attributes(args[0].module))
        changed = sum(1 for key, value in (before or {}).items() if key in after and after[key] != value)
        subject = self._session.models.path(args[0].module)
        self._session.tell(TRAINER_PREPARE, f"{API}.__init__", subject, {}, {"foreign": 0, "changed": changed})

    def _backward_ends(
        self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        """ZeRO-2 overwrites what it accumulated with the last micro-batch at the accumulation boundary."""
        engine = args[0]
        if error is None and engine.zero_optimization_stage() == 2 and engine.is_gradient_accumulation_boundary():
            self._session.tell(GRAD_RESTART, f"{API}.backward", "", {}, {})

    def _update_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Updates | None:
        engine = args[0]
        if engine not in self._updates:
            self._updates[engine] = self._updates_of(engine)
        updates = self._updates[engine]
        if updates is not None:
            updates.begins()
        return updates

    def _update_ends(
        self, updates: Updates | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        if updates is not None:
            updates.ends(applied=error is None and args[0].was_step_applied(), error=error)

    def _updates_of(self, engine: Any) -> Updates | None:
        """``None`` for an engine that leaves the parameters to torch's optimizer: torch's hooks see that."""
        outer = engine.optimizer
        inner = getattr(outer, "optimizer", None)
        if isinstance(outer, Optimizer) or not isinstance(inner, Optimizer):
            return None
        return Updates(self._session, f"{API}.step", inner, parameter_groups(outer), lambda: _gradients(outer))

    def _step_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        engine = args[0]
        if self._loop is None and self._session.framework in ("pytorch", FRAMEWORK):
            self._loop = Loop(self._session, FRAMEWORK, API)
            self._loop.begin(engine.global_steps)
        return int(engine.global_steps)

    def _step_ends(
        self, steps: int | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        """The engine counts a step where it applied an update, or left it out for an overflow."""
        engine = args[0]
        if self._loop is None or error is not None or steps is None or engine.global_steps == steps:
            return
        managed = engine._is_gradient_accumulation_boundary is None
        self._loop.end_step(micro_steps=engine.gradient_accumulation_steps() if managed else None)


def parameter_groups(optimizer: Any) -> list[list[Tensor]]:
    """The model's parameters in the groups of an optimizer of DeepSpeed; ZeRO-3 splits its groups further."""
    groups: Any = next((getattr(optimizer, name) for name in GROUPS if getattr(optimizer, name, None)), [])
    parent = getattr(optimizer, "sub_group_to_group_id", None)
    if parent is None:
        return [list(group) for group in groups]
    joined: list[list[Tensor]] = [[] for _ in range(max(parent.values(), default=-1) + 1)]
    for number, group in enumerate(groups):
        joined[parent[number]] += group
    return joined


def _gradients(optimizer: Any) -> Held:
    """What this rank holds of the averaged gradients, between the last backward of a step and the update.

    Only local shards are read: DeepSpeed's own getters of whole gradients wait for the other ranks.
    """
    averaged = getattr(optimizer, "averaged_gradients", None)
    if averaged is None:
        return tuple((tensor, tensor.grad) for group in parameter_groups(optimizer) for tensor in group)
    own: Any = getattr(optimizer, "params_in_partition", None) or getattr(optimizer, "fp16_groups", ())
    return tuple(_paired(own, averaged))


def _paired(groups: Sequence[Sequence[Tensor]], averaged: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for number, parameters in enumerate(groups):
        shards = [shard for shard in averaged.get(number) or () if not getattr(shard, "_zero_padding", False)]
        yield from zip(parameters, shards, strict=False)


def _foreign(model: Any, optimizer: Any) -> int:
    if not isinstance(model, Module) or not isinstance(optimizer, Optimizer):
        return 0
    known = {id(parameter) for parameter in model.parameters()}
    return sum(1 for group in optimizer.param_groups for parameter in group["params"] if id(parameter) not in known)


def _attributes(model: Module) -> Iterator[tuple[str, Any]]:
    """The plain attributes that the user's layers carry."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, PLAIN) and not name.startswith(OWN):
                yield f"{path}.{name}", value
