"""Arguments by position or name, and short forms of what they are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, default: Any = None) -> Any:
    """The argument at ``place`` or called ``name``."""
    return args[place] if len(args) > place else kwargs.get(name, default)


@functools.cache
def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def size(tensor: Tensor | None) -> int | None:
    """Length of the first dimension; ``None`` for a scalar or no tensor."""
    return None if tensor is None or tensor.dim() == 0 else int(tensor.shape[0])


def qualified(kind: type) -> str:
    """Dotted name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"
