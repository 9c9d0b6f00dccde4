"""Objects of a kind that are alive in this process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def alive(*kinds_of: type[T]) -> list[T]:
    """Every living instance of any: by exact class, because asking each object for its kind would run its code."""
    kinds = {kind for top in kinds_of for kind in _kinds(top)}
    if any(type(item) in kinds for item in gc.get_objects()):
        gc.collect()  # What only a cycle of garbage still holds, an earlier training say, is not alive.
    return [item for item in gc.get_objects() if type(item) in kinds]


def _kinds(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for below in type.__subclasses__(kind):
        yield from _kinds(below)
