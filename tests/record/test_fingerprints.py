"""Fingerprints see every element, in order, whatever the type and the layout."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from traincheck.record.fingerprints import batch_fingerprint, device_digest, fingerprints, norms

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


def fingerprint(tensor: torch.Tensor) -> int | None:
    return fingerprints([tensor])[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_single_element_counts(dtype: torch.dtype) -> None:
    base = torch.zeros(3, 5).to(dtype)
    seen = {fingerprint(base)}
    for place in range(base.numel()):
        changed = torch.zeros(15)
        changed[place] = 1
        seen.add(fingerprint(changed.to(dtype).reshape(3, 5)))

    assert len(seen) == 16


@given(st.permutations(range(6)))
def test_order_counts(order: list[int]) -> None:
    values = torch.arange(6, dtype=torch.float32)

    assert (order == list(range(6))) == (fingerprint(values[torch.tensor(order)]) == fingerprint(values))
    assert (order == list(range(6))) == (bool(device_digest(values[torch.tensor(order)]) == device_digest(values)))


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=8), st.data())
def test_the_device_digest_sees_any_change(values: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    other = data.draw(st.integers(-(2**31), 2**31 - 1).filter(lambda value: value != values[place]))
    before, after = torch.tensor(values, dtype=torch.int32), torch.tensor(values, dtype=torch.int32)
    after[place] = other

    assert device_digest(before) != device_digest(after)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layout_does_not_count(dtype: torch.dtype) -> None:
    tensor = torch.arange(12).reshape(3, 4).to(dtype)

    assert fingerprint(tensor.T.contiguous()) == fingerprint(tensor.T)
    assert fingerprint(tensor[:1].expand(3, 4).clone()) == fingerprint(tensor[:1].expand(3, 4))


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_special_tensors() -> None:
    dense = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    other = torch.tensor([[0.0, 2.0], [4.0, 0.0]])

    assert None is fingerprint(torch.empty(3, device="meta"))
    assert None is fingerprints([None])[0]
    assert None is fingerprint(torch.nn.LazyLinear(3).weight)
    assert fingerprint(torch.empty(0, 3)) is not None
    assert fingerprint(torch.tensor(3.0)) is not None
    assert fingerprint(dense.to_sparse()) == fingerprint(dense.clone().to_sparse())
    assert fingerprint(dense.to_sparse()) != fingerprint(other.to_sparse())
    assert fingerprint(dense.to_sparse_csr()) != fingerprint(other.to_sparse_csr())
    value = torch.complex(dense, other)
    assert fingerprint(value.conj()) == fingerprint(value.conj().resolve_conj())


def test_a_batch_is_one_fingerprint() -> None:
    inputs, labels = torch.randn(4, 2), torch.arange(4)

    assert batch_fingerprint({"x": [inputs], "y": labels}) == batch_fingerprint((inputs, {"labels": labels}))
    assert batch_fingerprint((inputs, labels)) != batch_fingerprint((labels, inputs))
    assert None is batch_fingerprint(["text", 3])


def test_norms() -> None:
    tensors = [torch.ones(4), None, torch.full((3,), math.nan), torch.ones(4, dtype=torch.bfloat16), torch.ones(0)]
    found = norms(tensors)

    assert [2.0, None] == found[:2]
    assert found[2] is not None
    assert math.isnan(found[2])
    assert [2.0, 0.0] == found[3:]
    assert pytest.approx([300_000.0], rel=1e-3) == norms([torch.full((90_000,), 1000.0, dtype=torch.float16)])


def test_the_modes_of_a_program_do_not_see_it() -> None:
    seen: list[object] = []

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return func(*args, **(kwargs or {}))

    class Dispatch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return func(*args, **(kwargs or {}))

    weight = torch.nn.Parameter(torch.randn(3))
    with Functions(), Dispatch():
        fingerprints([weight])
        norms([weight])

    assert [] == seen
    assert torch.is_grad_enabled()
