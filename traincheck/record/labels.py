"""Whether labels of a language model keep the end of a sequence, leave out what fills a row, and are not shifted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor
from torch.nn import Module

from traincheck.record.fingerprints import unseen
from traincheck.values import Value

IGNORED: Final = -100

_SHIFTING: Final = ("ForCausalLM", "LMHeadModel")
_FEW: Final = 8
"""Fewer labels than this may agree with other tokens by chance."""


def end_labels(model: Module, inputs: Mapping[str, Any]) -> dict[str, Value]:
    """For rows that end with the end-of-sequence token of the model's ``config`` and count right before it.

    How many such rows there are, how many have no label at their end, and whether any has none. Empty where the labels
    are not those of a causal language model, a copy of the input with parts left out.
    """
    config = getattr(model, "config", None)
    ends = getattr(config, "eos_token_id", None)
    ids, labels, mask = (inputs.get(name) for name in ("input_ids", "labels", "attention_mask"))
    if ends is None or getattr(config, "is_encoder_decoder", False):
        return {}
    if not (_plain(ids) and _plain(labels) and _plain(mask)):
        return {}
    if ids.dim() != 2 or not ids.shape == labels.shape == mask.shape or ids.shape[1] < 2:
        return {}
    with unseen():
        rows, dropped = _ends(ids, labels, mask, [ends] if isinstance(ends, int) else list(ends))
    return {"eos_rows": rows, "eos_lost": dropped, "eos_dropped": dropped > 0} if rows else {}


def shifted_labels(model: Module, inputs: Mapping[str, Any]) -> dict[str, Value]:
    """Whether the labels of a causal language model of Transformers, which shifts them itself, are shifted already."""
    kind, config = type(model).__name__, getattr(model, "config", None)
    ids, labels = inputs.get("input_ids"), inputs.get("labels")
    if not kind.endswith(_SHIFTING) or not hasattr(config, "model_type") or not (_plain(ids) and _plain(labels)):
        return {}
    if ids.dim() != 2 or ids.shape != labels.shape or ids.shape[1] < _FEW:
        return {}
    with unseen():
        if bool(((labels == ids) | (labels == IGNORED)).all()):
            return {"labels_shifted": False}
        early = labels[:, :-1]
        shifted = bool(((early == ids[:, 1:]) | (early == IGNORED)).all()) and int((early != IGNORED).sum()) >= _FEW
    return {"labels_shifted": True} if shifted else {}


def padding_labels(inputs: Mapping[str, Any]) -> dict[str, Value]:
    """Whether rows that are filled up have labels for what fills them, which then counts in the loss.

    Filling is what the attention mask leaves out and is one token throughout. Empty where no row is filled up by more
    than one position: a single one may stand for the end of the sequence.
    """
    ids, labels, mask = (inputs.get(name) for name in ("input_ids", "labels", "attention_mask"))
    if not (_plain(ids) and _plain(labels) and _plain(mask)):
        return {}
    if ids.dim() != 2 or not ids.shape == labels.shape == mask.shape:
        return {}
    with unseen():
        filled = mask == 0
        long = filled.sum(1) > 1
        if not long.any():
            return {}
        tokens = ids[filled]
        learned = long & ((labels == ids) | ~filled).all(1)
        same, rows = bool((tokens == tokens[0]).all()), int(learned.sum())
    return {"pad_rows": rows, "pad_counted": rows > 0} if same else {}


def _plain(tensor: Any) -> TypeGuard[Tensor]:
    return type(tensor) is Tensor and tensor.device.type != "meta"


def _ends(ids: Tensor, labels: Tensor, mask: Tensor, ends: list[int]) -> tuple[int, int]:
    """Rows with an end that should count, and those of them where it does not."""
    copies = ((labels == ids) | (labels == IGNORED)).all()
    places = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    last = ((mask != 0) * places).amax(1, keepdim=True) - 1
    before = (last - 1).clamp(min=0)
    ended = torch.isin(ids.gather(1, last.clamp(min=0)), torch.tensor(ends, device=ids.device))
    counts = (labels.gather(1, before) != IGNORED) & (mask.gather(1, before) != 0) & (last > 0)
    rows = copies & ended & counts
    lost = rows & (labels.gather(1, last.clamp(min=0)) == IGNORED)
    found = torch.stack([rows.sum(), lost.sum()]).tolist()
    return int(found[0]), int(found[1])
