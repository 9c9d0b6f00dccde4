"""Recorded values: what a trace can hold, and the one place where two of them are compared."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TypeAlias

Value: TypeAlias = "None | bool | int | float | str | tuple[Value, ...]"
"""Whatever an argument, an output or a context field is recorded as. Tensors are recorded by their fingerprint."""

Fields: TypeAlias = tuple[tuple[str, Value], ...]
"""Named values, sorted by name: hashable, so that equal contexts are counted together."""

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_NON_FINITE_KEY = "$float"


def fields(values: Mapping[str, Value]) -> Fields:
    """``values`` as sorted pairs."""
    return tuple(sorted(values.items()))


def same(left: Value, right: Value) -> bool:
    """Whether two recorded values are equal, type-strict: ``True``, ``1`` and ``1.0`` differ, NaN equals NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def identity(value: Value) -> tuple[str, Value]:
    """A hashable stand-in for ``value`` that is equal exactly when :func:`same` says so."""
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else value)
    if isinstance(value, tuple):
        return ("tuple", tuple(identity(item) for item in value))
    return (type(value).__name__, value)


def encode(values: Mapping[str, Value]) -> str:
    """``values`` as compact JSON. Non-finite numbers are written out, because JSON has none."""
    return _ENCODER.encode({name: _to_json(value) for name, value in values.items()})


def decode(text: str) -> dict[str, Value]:
    """The inverse of :func:`encode`. Raises ``ValueError`` on anything that :func:`encode` cannot have written."""
    try:
        document = _DECODER.decode(text)
        if not isinstance(document, dict):
            raise ValueError("expected an object of named values")
        return {name: _from_json(value) for name, value in document.items()}
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def to_json(value: Value) -> object:
    """One value as JSON-ready data: tuples as lists, non-finite numbers as ``{"$float": "nan"}``."""
    return _to_json(value)


def from_json(data: object) -> Value:
    """The inverse of :func:`to_json`. Raises ``ValueError`` on anything else."""
    return _from_json(data)


def _to_json(value: Value) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return {_NON_FINITE_KEY: repr(value)}
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value


def _from_json(data: object) -> Value:
    if isinstance(data, float) and not math.isfinite(data):
        raise ValueError("a number beyond the range of a float")
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    if isinstance(data, list):
        return tuple(_from_json(item) for item in data)
    if isinstance(data, dict) and set(data) == {_NON_FINITE_KEY}:
        name = data[_NON_FINITE_KEY]
        if isinstance(name, str) and name in _NON_FINITE:
            return _NON_FINITE[name]
    raise ValueError(f"not a recorded value: {data!r:.80}")


def _refuse_constant(name: str) -> Value:
    raise ValueError(f"{name} is not JSON; a non-finite number is written as {{{_NON_FINITE_KEY!r}: ...}}")


_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
