"""Forward passes, and switches between training and evaluation mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from traincheck.record.arguments import dtype_name, qualified, size
from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import batch_fingerprint, first_tensor, number, tensors_in
from traincheck.record.hooks_backward import in_backward
from traincheck.record.labels import end_labels, padding_labels, shifted_labels
from traincheck.record.masks import PADDING_MASKS, attention_mask_judged, padding_mask_judged, tokens_of
from traincheck.record.models import Layer, Tree, innermost
from traincheck.record.named import DATA_PARALLEL, layers_of
from traincheck.record.patching import Hook
from traincheck.values import Value
from traincheck.vocabulary import (
    AFTER,
    ATTENTION,
    AWAKE,
    BEFORE,
    BUFFER,
    DROPOUT,
    EVERY_LAYER,
    FORWARD,
    INPUTS,
    LABELS_ENDED,
    LABELS_PADDED,
    LABELS_SHIFTED,
    LEFT_OUT,
    LOSS,
    MASK_INVERTED,
    MATMUL,
    MODE_EVAL,
    MODE_TRAIN,
    MODULE_FORWARD,
)

if TYPE_CHECKING:
    from traincheck.record.session import Session


_INSIDE = (MODULE_FORWARD, DROPOUT, ATTENTION, MATMUL, LOSS)
"""What happens inside a model, and is told with the layer that does it."""


@dataclass(slots=True)
class _Pass:
    """A forward pass of a module that has begun."""

    call: OpenCall | None
    tree: Tree | None = None


_UNRECORDED: Final = _Pass(None)


class ForwardHooks:
    """Records ``forward`` of models and ``module.forward`` of what is inside them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layers = session.wants(MODULE_FORWARD)
        self._every_layer = session.plan.wants_detail(EVERY_LAYER)
        self.inside = (
            any(map(session.wants, _INSIDE))
            or session.plan.wants_detail(LEFT_OUT, MASK_INVERTED)
            or session.plan.wants_snapshot(FORWARD, BEFORE, BUFFER)
        )
        """Whether anybody asks what happens inside of models."""

    def passes_over(self, args: tuple[Any, ...]) -> bool:
        """Whether it is a forward of a step that is left out; the step that it ends, if it does, is counted here."""
        session, thread = self._session, self._session.calls.thread
        if thread.modules or thread.optimizers or not session.steps.may_close_at_forward():
            return True
        if in_backward() or not (args[0]._modules or args[0]._parameters):
            return True
        closes = session.automatic() and session.steps.closes_at_forward(
            session.contexts.moment(), in_optimizer_step=False
        )
        return closes and session.passes_on()

    def rests(self, args: tuple[Any, ...]) -> bool:
        """Whether it is a forward of something inside a model. Asked where nobody wants to know what happens inside."""
        return bool(self._session.calls.thread.modules)

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Pass | None:
        # Most of what a step costs are the layers: in the middle of a forward every look-up misses the caches.
        module, session = args[0], self._session
        thread = session.calls.thread
        modules = thread.modules
        if module.__dict__.get("_is_replica", False) or not (modules or module._modules or module._parameters):
            return None
        if not modules and not in_backward():
            return self._model_begins(module, args[1:], kwargs)
        layer = session.models.layer(module)
        path, training = layer.path, module.training
        same = False
        if modules:
            same = modules[-1] == path
            if same and len(modules) == 1:
                self._replica_begins(module)
            if layer.label != modules[0] and layer.label != modules[0].partition(".")[0]:
                session.boundary.run("layers left out", session.loose.runs, module, modules[0])
                if not module._parameters and not module._modules:
                    training = thread.modes[-1]  # made for this call, so nothing switches it
            if kwargs and not kwargs.keys().isdisjoint(PADDING_MASKS):
                session.boundary.run("mask", self._masked, kwargs)
        modules.append(path)
        thread.modes.append(training)
        if same or not self._layers or not (layer.holds or module._parameters or self._every_layer):
            return _UNRECORDED
        return _Pass(self._layer_begins(module, layer))

    def _model_begins(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Pass:
        session, models = self._session, self._session.models
        models.add(module)
        moment, inside_step = session.contexts.moment(), bool(session.calls.thread.optimizers)
        if session.automatic() and session.steps.closes_at_forward(moment, inside_step):
            session.end_window()
        session.steps.forward(moment)
        if not session.recording:
            session.calls.thread.modules.append("")
            session.calls.thread.modes.append(False)
            return _Pass(None)
        session.walk()
        inner = innermost(module)
        path = models.path(inner)
        session.calls.thread.modules.append(path)
        session.calls.thread.modes.append(inner.training)
        inputs = (args, kwargs)
        # The mode of a wrapper means nothing: Lightning switches only what it wraps.
        described: dict[str, Value] = {"training": inner.training, "size": size(first_tensor(inputs))}
        if any(tensor.grad_fn is not None for tensor in tensors_in(inputs)):
            described["fed"] = True  # by what another model, or a part of one, gave
        wrapper = type(module).__name__ if inner is not module else models.wrapper(inner)
        if wrapper:
            described["wrapper"] = wrapper
        if any(type(around).__name__ == DATA_PARALLEL for around in models.wrappers(inner)):
            described["through_wrapper"] = any(type(called).__name__ == DATA_PARALLEL for called in layers_of(module))
        if wrapper == "AveragedModel" and session.step:
            described["averaged_steps"] = _averaged_steps(module)
        if inner.training:
            described |= session.answer([AWAKE], "parts set aside", session.set_aside.awake, inner)
        call = session.open(FORWARD, f"{qualified(type(inner))}.forward", path, described)
        if call is None:
            return _Pass(None)
        if call.recorded:
            session.calls.thread.tokens = tokens_of(inputs)
            if described.get("through_wrapper") or session.plan.wants_detail(INPUTS):
                call.args["inputs"] = session.boundary.run("inputs", batch_fingerprint, inputs)
            call.args.update(session.answer([LABELS_ENDED], "labels", end_labels, inner, kwargs))
            call.args.update(session.answer([LABELS_PADDED], "labels", padding_labels, kwargs))
            call.args.update(session.answer([LABELS_SHIFTED], "labels", shifted_labels, inner, kwargs))
            call.args.update(session.answer([MASK_INVERTED], "mask", attention_mask_judged, kwargs))
        tree = models.tree(inner)
        if not isinstance(module, DistributedDataParallel):
            session.snapshots.buffers(call, BEFORE, tree)
        return _Pass(call, tree)

    def _replica_begins(self, module: Module) -> None:
        """DistributedDataParallel takes over the buffers of rank 0 before it calls the model: they count from here."""
        call = next(reversed(self._session.calls.thread.stack), None)
        if call is not None and call.role == FORWARD and call.args.get("wrapper") == DistributedDataParallel.__name__:
            self._session.snapshots.buffers(call, BEFORE, self._session.models.tree(module))

    def _masked(self, kwargs: dict[str, Any]) -> None:
        """A layer is given a mask for the tokens that its model was given."""
        thread = self._session.calls.thread
        call = next((call for call in thread.stack if call.role == FORWARD), None)
        if call is not None and thread.tokens is not None and "mask_inverted" not in call.args:
            call.args.update(padding_mask_judged(thread.tokens, kwargs))

    def _layer_begins(self, module: Module, layer: Layer) -> OpenCall | None:
        session = self._session
        if not session.recording:
            return None
        described: dict[str, Value] = {"training": module.training, "kind": layer.kind}
        if in_backward():
            described["recompute"] = True
        return session.calls.open(MODULE_FORWARD, layer.api, layer.path, session.contexts.inside(), described)

    def ends(self, begun: _Pass | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        if begun is None:
            return
        session = self._session
        thread = session.calls.thread
        thread.modules.pop()
        thread.modes.pop()
        call = begun.call
        if call is None:
            return
        whole = call.role == FORWARD
        if whole:
            thread.tokens = None
        if error is None and call.recorded:
            call.out = _output(result, whole=whole)
            if begun.tree is not None:
                session.snapshots.buffers(call, AFTER, begun.tree)
        session.finish(call, error)


class ModeHooks:
    """Records ``mode.train`` and ``mode.eval``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | bool | None:
        session, module = self._session, args[0]
        inside = session.calls.thread.inside
        if inside.get(MODE_TRAIN):
            return None
        inside[MODE_TRAIN] = 1
        mode = args[1] if len(args) > 1 else kwargs.get("mode", True)
        role, method = (MODE_TRAIN, "train") if mode else (MODE_EVAL, "eval")
        session.set_aside.switched(innermost(module), training=bool(mode))
        path = session.models.path(innermost(module))
        described: dict[str, Value] = {"root": session.models.is_model(module), "mode": bool(mode)}
        return session.open(role, f"{qualified(type(module))}.{method}", path, described) or True

    def ends(
        self, call: OpenCall | bool | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        if call is None:
            return
        self._session.calls.thread.inside[MODE_TRAIN] = 0
        if isinstance(call, OpenCall):
            self._session.finish(call, error)


def install(session: Session) -> None:
    """Hook into modules."""
    wrap = session.patches.wrap
    forward = ForwardHooks(session)
    over, rests = forward.passes_over, None if forward.inside else forward.rests
    hook = Hook(FORWARD, forward.begins, forward.ends, passive_when_fed=True, passes_over=over, rests=rests)
    wrap(Module, "__call__", hook)
    if session.wants(MODE_TRAIN) or session.wants(MODE_EVAL):
        mode = ModeHooks(session)
        wrap(Module, "train", Hook(MODE_TRAIN, mode.begins, mode.ends, passive=True))


def _averaged_steps(averaged: Module) -> int | None:
    """How many times the weights went into an ``AveragedModel``; ``None`` for a wrapper around one."""
    count = getattr(averaged, "n_averaged", None)
    return int(number(count) or 0) if isinstance(count, Tensor) else None


def _output(result: Any, *, whole: bool) -> dict[str, Value]:
    tensors = [result] if isinstance(result, Tensor) else list(tensors_in(result))
    floating = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    found: dict[str, Value] = {
        "requires_grad": any(tensor.requires_grad for tensor in tensors),
        "dtype": None if floating is None else dtype_name(floating.dtype),
    }
    if whole:
        found["size"] = size(tensors[0]) if tensors else None
    return found
