"""Recorded values compare type-strictly, and survive being written."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traincheck.values import Value, decode, encode, fields, from_json, identity, same, to_json

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values: st.SearchStrategy[Value] = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4).map(tuple))
close_values = st.sampled_from(
    [None, False, True, 0, 1, 0.0, -0.0, 1.0, math.nan, "nan", "1", (), (1,), (True,), (1.0,)]
)


@given(values | close_values)
def test_every_value_is_the_same_as_itself(value: Value) -> None:
    assert same(value, value)
    assert identity(value) == identity(value)


@given(values | close_values, values | close_values)
def test_identity_is_equal_exactly_when_values_are_the_same(left: Value, right: Value) -> None:
    assert same(left, right) == (identity(left) == identity(right))
    assert same(left, right) == same(right, left)


@given(values | close_values)
def test_identity_can_be_counted(value: Value) -> None:
    assert {identity(value): 1}[identity(value)] == 1


@pytest.mark.parametrize(
    ("left", "right"),
    [(True, 1), (1, 1.0), (True, 1.0), ((1,), (True,)), ((1,), (1, 1)), ("1", 1), (None, False), (math.nan, "nan")],
)
def test_values_of_different_type_or_length_differ(left: Value, right: Value) -> None:
    assert not same(left, right)
    assert identity(left) != identity(right)


def test_nan_is_the_same_as_another_nan_at_any_depth() -> None:
    assert same((1, (float("nan"),)), (1, (-float("nan"),)))
    assert identity((float("nan"),)) == identity((-float("nan"),))


@given(st.dictionaries(st.text(), values | close_values))
def test_what_is_decoded_is_the_same_as_what_was_encoded(named: dict[str, Value]) -> None:
    decoded = decode(encode(named))

    assert list(named) == list(decoded)
    assert all(same(named[name], decoded[name]) for name in named)


@given(st.dictionaries(st.text(), values))
def test_encoded_values_are_strict_json(named: dict[str, Value]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(encode(named), parse_constant=refuse)


@given(values)
def test_one_value_as_json_data_comes_back(value: Value) -> None:
    assert same(value, from_json(json.loads(json.dumps(to_json(value), allow_nan=False))))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"a": 1',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": {}}',
        '{"a": {"b": 1}}',
        '{"a": {"$float": "1.0"}}',
        '{"a": {"$float": ["nan"]}}',
        '{"a": {"$float": "nan", "b": 1}}',
        '{"a": ' + "[" * 100_000,
    ],
)
def test_decode_refuses_what_encode_cannot_have_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        decode(text)


def test_fields_do_not_depend_on_the_order_of_naming() -> None:
    assert fields({"a": 1, "b": 2}) == fields({"b": 2, "a": 1})
