"""Objects of a kind that are alive in this process."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def alive(kind: type[T]) -> list[T]:
    """Every living instance of ``kind``: by exact class, because asking each object for its kind would run its code."""
    kinds = set(_kinds(kind))
    return [item for item in gc.get_objects() if type(item) in kinds]


def _kinds(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for below in type.__subclasses__(kind):
        yield from _kinds(below)
