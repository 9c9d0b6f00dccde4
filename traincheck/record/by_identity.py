"""A dictionary whose keys are objects of the program: kept apart by identity, not kept alive, and never looked into."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class ByIdentity(Generic[Value]):
    """In the order in which keys were put in.

    Torch's ``WeakIdKeyDictionary`` asks keys for an attribute: a model whose ``__getattr__`` is not ready for that
    while it is built would end there. For tensors that one is right: they may outlive their Python object.
    """

    def __init__(self) -> None:
        self._items: dict[int, tuple[weakref.ref[Any], Value]] = {}

    def __setitem__(self, key: Any, value: Value) -> None:
        identity = id(key)
        known = self._items.get(identity)
        if known is not None and known[0]() is key:
            self._items[identity] = (known[0], value)
            return

        def dies(reference: weakref.ref[Any]) -> None:
            held = self._items.get(identity)
            if held is not None and held[0] is reference:
                del self._items[identity]

        self._items.pop(identity, None)
        self._items[identity] = (weakref.ref(key, dies), value)

    @overload
    def get(self, key: Any) -> Value | None: ...

    @overload
    def get(self, key: Any, default: Value) -> Value: ...

    def get(self, key: Any, default: Value | None = None) -> Value | None:
        """The value of ``key``, or the default."""
        found = self._items.get(id(key))
        return found[1] if found is not None and found[0]() is key else default

    def add(self, key: Any, value: Value) -> None:
        """Put it in if the key is new."""
        if key not in self:
            self[key] = value

    def __contains__(self, key: Any) -> bool:
        found = self._items.get(id(key))
        return found is not None and found[0]() is key

    def __iter__(self) -> Iterator[Any]:
        return iter([key for key, _ in self.items()])

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[tuple[Any, Value]]:
        """The keys that are alive, with their values."""
        alive = [(reference(), value) for reference, value in list(self._items.values())]
        return [(key, value) for key, value in alive if key is not None]
