"""Operations that say how a model computes: losses, dropout, attention, products, autocast, initialisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.nn import init
from torch.nn.utils.spectral_norm import SpectralNorm

from traincheck.record.arguments import argument, dtype_name, size
from traincheck.record.calls import OpenCall
from traincheck.record.fingerprints import number, unseen
from traincheck.record.patching import Hook
from traincheck.values import Value
from traincheck.vocabulary import (
    ATTENTION,
    AUTOCAST,
    DROPOUT,
    LOSS,
    MATMUL,
    OUTSIDE_AUTOCAST,
    PARAM_INIT,
    SPECTRAL_NORM,
)

if TYPE_CHECKING:
    from traincheck.record.session import Session

Describe = Callable[[tuple[Any, ...], dict[str, Any]], "dict[str, Value] | None"]

_BY_SAMPLE = ("cross_entropy", "nll_loss")
_BY_ELEMENT = (
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
)
"""Losses that compare element by element: other shapes are broadcast, which is hardly ever meant."""
_LOSSES = (
    *_BY_SAMPLE,
    *_BY_ELEMENT,
    "kl_div",
    "ctc_loss",
    "gaussian_nll_loss",
    "poisson_nll_loss",
    "cosine_embedding_loss",
    "margin_ranking_loss",
    "triplet_margin_loss",
    "hinge_embedding_loss",
    "multi_margin_loss",
    "soft_margin_loss",
)
_DROPOUTS = (
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
)
_LAYER_PRODUCTS = (
    "linear",
    "bilinear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)
_PRODUCTS = ("matmul", "bmm", "mm", "addmm", "baddbmm", "einsum")


class OperationHooks:
    """Records calls of one function under one role; a function inside another of the same role is part of it."""

    def __init__(self, session: Session, role: str, api: str, describe: Describe) -> None:
        self._session = session
        self._role = role
        self._api = api
        self._describe = describe

    def _subject(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The parameter that is initialised; for any other operation the module that runs it."""
        if self._role == PARAM_INIT:
            return self._session.models.name_of(argument(args, kwargs, 0, "tensor"))
        modules = self._session.calls.thread.modules
        return modules[-1] if modules else ""

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        inside = self._session.calls.thread.inside
        inside[self._role] = inside.get(self._role, 0) + 1
        if inside[self._role] > 1:
            return None
        described = self._describe(args, kwargs)
        if described is None:
            return None
        if self._role == PARAM_INIT:
            described["loaded"] = argument(args, kwargs, 0, "tensor") in self._session.models.loaded
        elif self._role in (DROPOUT, ATTENTION):
            modes = self._session.calls.thread.modes
            described["layer_training"] = modes[-1] if modes else None
        return self._session.open(self._role, self._api, self._subject(args, kwargs), described)

    def ends(
        self, call: OpenCall | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        self._session.calls.thread.inside[self._role] -= 1
        if call is None:
            return
        if isinstance(result, Tensor):
            call.out["dtype"] = dtype_name(result.dtype)
        self._session.finish(call, error)


class AutocastHooks:
    """Records ``autocast``: one call from the entry of the region to its exit."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._open: dict[int, list[OpenCall | None]] = {}

    def enters(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        region = args[0]
        described: dict[str, Value] = {
            "dtype": dtype_name(region.fast_dtype) if region.fast_dtype is not None else None,
            "enabled": bool(region._enabled),
            "device": str(region.device),
        }
        call = self._session.open(AUTOCAST, "torch.autocast", "", described)
        self._open.setdefault(id(region), []).append(call)

    def none_open(self, args: tuple[Any, ...]) -> bool:
        """Whether an operation with these arguments is in no region."""
        return not self._open

    def exited(self, token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any) -> None:
        calls = self._open.get(id(args[0]))
        if calls:
            self._session.finish(calls.pop())
            if not calls:
                del self._open[id(args[0])]


class SpectralNormHooks:
    """Records the older ``spectral_norm``, whose vectors are random until a forward pass in training mode."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenCall | None:
        norm, module, iterates = args[0], args[1], argument(args, kwargs, 2, "do_power_iteration")
        described: dict[str, Value] = {"iterates": bool(iterates), "aligned": bool(iterates) or _aligned(norm, module)}
        path = self._session.models.path(module)
        return self._session.open(SPECTRAL_NORM, "torch.nn.utils.spectral_norm", path, described)

    def ends(
        self, call: OpenCall | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: Any
    ) -> None:
        self._session.finish(call, error)


def _aligned(norm: SpectralNorm, module: torch.nn.Module) -> bool:
    """Whether its two vectors belong together: one iteration makes the first point where the weight maps the second."""
    u, v = getattr(module, f"{norm.name}_u"), getattr(module, f"{norm.name}_v")
    with unseen():
        weight = norm.reshape_weight_to_matrix(getattr(module, f"{norm.name}_orig"))
        image = torch.mv(weight, v)
        cosine = number(torch.dot(u, image) / image.norm().clamp(min=norm.eps))
    return cosine is None or abs(cosine) > _ALIGNED


_ALIGNED = 0.6
"""Of random vectors in a few dimensions the cosine is mostly below this; after an iteration it is near one."""


def install(session: Session) -> list[Callable[[], None]]:
    """Hook into the functions that the plan asks for."""
    if session.wants(LOSS):
        for name in _LOSSES:
            _wrap(session, LOSS, functional, "torch.nn.functional", name, _loss_of(name))
    if session.wants(DROPOUT):
        for name in _DROPOUTS:
            _wrap(session, DROPOUT, functional, "torch.nn.functional", name, _dropout)
    if session.wants(ATTENTION):
        _wrap(session, ATTENTION, functional, "torch.nn.functional", "scaled_dot_product_attention", _attention)
    regions = AutocastHooks(session)
    if session.wants(MATMUL):
        rests = None if session.plan.wants_detail(OUTSIDE_AUTOCAST) else regions.none_open
        for name in _LAYER_PRODUCTS:
            _wrap(session, MATMUL, functional, "torch.nn.functional", name, _product, rests)
        for name in _PRODUCTS:
            _wrap(session, MATMUL, torch, "torch", name, _product, rests)
        for name in ("matmul", "__matmul__"):
            _wrap(session, MATMUL, Tensor, "torch.Tensor", name, _product, rests)
    if session.wants(PARAM_INIT):
        for name in vars(init).copy():
            if name.endswith("_") and not name.startswith("_"):
                _wrap(session, PARAM_INIT, init, "torch.nn.init", name, _init_of(name))
    if session.wants(SPECTRAL_NORM):
        norms = SpectralNormHooks(session)
        session.patches.wrap(
            SpectralNorm, "compute_weight", Hook(SPECTRAL_NORM, norms.begins, norms.ends, passive=True)
        )
    if session.wants(AUTOCAST):
        session.patches.wrap(torch.autocast, "__enter__", Hook(AUTOCAST, regions.enters, _nothing_after))
        session.patches.wrap(torch.autocast, "__exit__", Hook(AUTOCAST, _nothing_before, regions.exited))
    return []


def _wrap(
    session: Session,
    role: str,
    owner: Any,
    place: str,
    name: str,
    describe: Describe,
    rests: Callable[[tuple[Any, ...]], bool] | None = None,
) -> None:
    hooks = OperationHooks(session, role, f"{place}.{name}", describe)
    session.patches.wrap(owner, name, Hook(f"{role} {name}", hooks.begins, hooks.ends, passive=True, rests=rests))


def _loss_of(name: str) -> Describe:
    def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Value] | None:
        given = argument(args, kwargs, 0, "log_probs" if name == "ctc_loss" else "input")
        target = argument(args, kwargs, 1, "targets" if name == "ctc_loss" else "target")
        described: dict[str, Value] = {"reduction": str(kwargs.get("reduction", "mean"))}
        if isinstance(given, Tensor):
            described["input_dtype"] = dtype_name(given.dtype)
        if isinstance(given, Tensor) and isinstance(target, Tensor) and target.dim():
            if name in _BY_SAMPLE:
                described |= {"input_size": size(given), "target_size": size(target)}
            elif name in _BY_ELEMENT:
                described |= {"input_size": tuple(given.shape), "target_size": tuple(target.shape)}
        return described

    return describe


def _dropout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Value]:
    rate = float(argument(args, kwargs, 1, "p", 0.5))
    return {"p": rate, "active": bool(argument(args, kwargs, 2, "training", True)) and rate > 0.0}


def _attention(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Value]:
    rate = float(argument(args, kwargs, 4, "dropout_p", 0.0))
    return {"dropout_p": rate, "active": rate > 0.0, "causal": bool(argument(args, kwargs, 5, "is_causal", False))}


def _product(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Value] | None:
    """The type of the first tensor; products of integers say nothing about a model."""
    candidates = args[:2] if args else tuple(kwargs.values())
    for given in candidates:
        if isinstance(given, Tensor):
            return {"input_dtype": dtype_name(given.dtype)} if given.is_floating_point() else None
    return None


def _init_of(name: str) -> Describe:
    return lambda args, kwargs: {"kind": name}


def _nothing_before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Only the exit of the region counts."""


def _nothing_after(
    token: None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, error: BaseException | None
) -> None:
    """The region stays open until it is left."""
