"""Whether a padding mask leaves out the padding, or everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor

from traincheck.record.fingerprints import tensors_in, unseen
from traincheck.values import Value

PADDING_MASKS: Final = ("src_key_padding_mask", "key_padding_mask")
"""Where torch's transformer layers take a mask that is true at what attention leaves out."""


def tokens_of(inputs: Any) -> Tensor | None:
    """The first tensor of token ids, ``(batch, length)``, among a model's inputs."""
    return next((tensor for tensor in tensors_in(inputs) if _ids(tensor)), None)


def attention_mask_judged(inputs: Mapping[str, Any]) -> dict[str, Value]:
    """Of a model that takes ``input_ids`` and an ``attention_mask``, which is one at what counts."""
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if not _ids(ids) or type(mask) is not Tensor or mask.shape != ids.shape or mask.device != ids.device:
        return {}
    with unseen():
        return _judged(ids, mask != 0)


def padding_mask_judged(ids: Tensor, inputs: Mapping[str, Any]) -> dict[str, Value]:
    """Of a layer inside a model that was given ``ids``."""
    mask = next((inputs[name] for name in PADDING_MASKS if inputs.get(name) is not None), None)
    if type(mask) is not Tensor or mask.dtype != torch.bool or mask.shape != ids.shape or mask.device != ids.device:
        return {}
    with unseen():
        return _judged(ids, ~mask)


def _judged(ids: Tensor, kept: Tensor) -> dict[str, Value]:
    """An inverted mask keeps one token only, what fills up rows, and leaves out many different ones."""
    inside, outside = ids[kept], ids[~kept]
    if not inside.numel() or not outside.numel():
        return {}
    inverted = bool((inside == inside[0]).all()) and bool((outside != outside[0]).any())
    return {"mask_inverted": inverted, "masked_tokens": outside.numel(), "kept_token": int(inside[0])}


def _ids(tensor: Any) -> TypeGuard[Tensor]:
    if type(tensor) is not Tensor or tensor.dim() != 2 or tensor.device.type == "meta":
        return False
    return tensor.dtype in (torch.int64, torch.int32) and tensor.shape[1] > 1
