"""Fingerprints: 64 bits that stand for every element of a tensor, in order.

On the CPU the bytes go through xxh3. On a device a position-sensitive sum is computed there, and the results of all
tensors come to the host in one copy. Neither changes a tensor, uses a random number, or is seen by the program's modes.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import torch
import xxhash
from torch import Tensor

_PLAIN = (Tensor, torch.nn.Parameter)
_CHUNK = 1 << 22
_INT_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class unseen:  # noqa: N801  # used as a statement, like the context managers of torch
    """No autograd, no autocast, and none of the program's modes and transforms (``vmap``) see what happens inside."""

    __slots__ = ("_functions", "_grad_enabled", "_others")

    def __enter__(self) -> None:
        self._functions = torch._C.DisableTorchFunction()
        self._functions.__enter__()
        self._others = _outside_transforms()
        self._grad_enabled = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)

    def __exit__(self, *exc: object) -> None:
        torch._C._set_grad_enabled(self._grad_enabled)
        if self._others is not None:
            self._others.close()
        self._functions.__exit__(None, None, None)


def _outside_transforms() -> ExitStack | None:
    """Sets aside the dispatch modes and function transforms that are active, until it is closed."""
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    if not transformed and not torch._C._len_torch_dispatch_stack():
        return None
    stack = ExitStack()
    if transformed:
        from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

        stack.enter_context(temporarily_clear_interpreter_stack())
    if torch._C._len_torch_dispatch_stack():
        from torch.utils._python_dispatch import _disable_current_modes

        stack.enter_context(_disable_current_modes())
    return stack


def fingerprints(tensors: Sequence[Tensor | None]) -> list[int | None]:
    """One fingerprint each; ``None`` for a tensor that does not exist or has no content (meta, fake, lazy)."""
    found: list[int | None] = [None] * len(tensors)
    waiting: list[tuple[int, Tensor]] = []
    known: dict[int, int] = {}
    repeated: list[tuple[int, int]] = []
    with unseen():
        for position, tensor in enumerate(tensors):
            if tensor is None:
                continue
            first = known.setdefault(id(tensor), position)
            if first != position:
                repeated.append((position, first))
            elif _is_ordinary(tensor):
                found[position] = _host_digest(tensor)
            else:
                found[position] = _other_digest(tensor, position, waiting)
        for position, digest in _read(waiting):
            found[position] = digest
    for position, first in repeated:
        found[position] = found[first]
    return found


def norms(tensors: Sequence[Tensor | None]) -> list[float | None]:
    """The L2 norm of each, in float32; a non-finite tensor gives a non-finite norm. One host copy per device."""
    found: list[float | None] = [None] * len(tensors)
    groups: dict[tuple[torch.device, torch.dtype], list[tuple[int, Tensor]]] = {}
    with unseen():
        for position, tensor in enumerate(tensors):
            if tensor is None:
                continue
            local = tensor if _is_ordinary(tensor) and not tensor.is_quantized else _values(tensor)
            if local is not None and (local.is_floating_point() or local.is_complex()):
                groups.setdefault((local.device, local.dtype), []).append((position, local))
        for members in groups.values():
            numbers = _group_norms([tensor for _, tensor in members])
            for (position, _), number in zip(members, numbers, strict=True):
                found[position] = number
    return found


def batch_fingerprint(value: object) -> int | None:
    """One fingerprint over all tensors in a nested batch; ``None`` when it holds none."""
    tensors = list(tensors_in(value))
    if not tensors:
        return None
    return combined(fingerprints(tensors))


def combined(digests: Sequence[int | None]) -> int:
    """One fingerprint for an ordered group of fingerprints."""
    if len(digests) == 1 and digests[0] is not None:
        return digests[0]
    return xxhash.xxh3_64_intdigest(repr(list(digests)).encode())


def tensors_in(value: object, depth: int = 5) -> Iterator[Tensor]:
    """The tensors in nested mappings, sequences and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item, depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif depth and dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name, None), depth - 1)


def lengths(value: object, depth: int = 5) -> set[int]:
    """The lengths of the tensors and sequences in a nested value."""
    if isinstance(value, Tensor):
        return {int(value.shape[0])} if value.dim() else set()
    if depth and isinstance(value, Mapping):
        return set().union(*(lengths(item, depth - 1) for item in value.values()))
    if depth and isinstance(value, (list, tuple)):
        return {len(value)}.union(*(lengths(item, depth - 1) for item in value))
    return set()


def first_tensor(value: object) -> Tensor | None:
    """The first tensor in a nested value."""
    return next(tensors_in(value), None)


def number(tensor: Tensor) -> float | None:
    """The value of a tensor of one element; ``None`` when it has no content."""
    with unseen():
        local = _local(tensor)
        return None if local is None else float(local.detach().item())


def _is_ordinary(tensor: Tensor) -> bool:
    plain = type(tensor) in _PLAIN and tensor.is_cpu and tensor.layout is torch.strided
    return plain and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _host_digest(tensor: Tensor) -> int | None:
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if not tensor.is_contiguous():
        tensor = tensor.contiguous()
    address, size_bytes = tensor.data_ptr(), tensor.nbytes
    if not size_bytes:
        return xxhash.xxh3_64_intdigest(b"")
    # Read in place: a NumPy array on the way would cost more than the hash of a small tensor.
    return xxhash.xxh3_64_intdigest(_bytes(size_bytes).from_address(address)) if address else None


@functools.lru_cache(maxsize=4096)
def _bytes(size_bytes: int) -> type[ctypes.Array[ctypes.c_char]]:
    return ctypes.c_char * size_bytes


def _other_digest(tensor: Tensor, position: int, waiting: list[tuple[int, Tensor]]) -> int | None:
    """The digest of anything but a plain strided CPU tensor. Those on a device are put into ``waiting`` instead."""
    local = _local(tensor)
    if local is None:
        return None
    if local.layout is not torch.strided:
        parts = _sparse_parts(local)
        return combined(fingerprints(parts)) if parts else None
    if local.is_quantized:
        local = local.int_repr()
    if local.device.type == "cpu":
        return _host_digest(local)
    waiting.append((position, device_digest(local)))
    return None


def _local(tensor: Tensor) -> Tensor | None:
    """The part of the tensor that this process holds, or ``None`` when there is no content to see."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or tensor.device.type == "meta":
        return None
    if type(tensor) in _PLAIN:
        return tensor
    if torch.nn.parameter.is_lazy(tensor):
        return None
    if isinstance(tensor, torch._subclasses.FakeTensor):
        return None
    distributed = sys.modules.get("torch.distributed.tensor")
    if distributed is not None and isinstance(tensor, distributed.DTensor):
        local = tensor._local_tensor
        return _local(local) if isinstance(local, Tensor) else None
    return tensor


def _values(tensor: Tensor) -> Tensor | None:
    local = _local(tensor)
    if local is None or local.is_quantized:
        return None
    if local.layout is torch.sparse_coo:
        return local._values()
    return local.values() if local.layout is not torch.strided else local.detach()


def _sparse_parts(tensor: Tensor) -> list[Tensor]:
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []


def device_digest(tensor: Tensor) -> Tensor:
    """A position-sensitive 64-bit sum, on the tensor's own device: any change of one element changes it."""
    flat = tensor.detach()
    if flat.is_complex():
        flat = torch.view_as_real(flat.resolve_conj())
    flat = flat.resolve_neg().contiguous().reshape(-1)
    numbers = flat.view(_INT_OF_SIZE[flat.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for start in range(0, numbers.numel(), _CHUNK):
        part = numbers[start : start + _CHUNK].to(torch.int64)
        place = torch.arange(start + 1, start + 1 + part.numel(), dtype=torch.int64, device=flat.device)
        place = place * -7046029254386353131
        place = (place ^ (place >> 29)) * -4658895280553007687
        total = total + ((part + 1) * (place | 1)).sum()
    return total


def _read(waiting: list[tuple[int, Tensor]]) -> Iterator[tuple[int, int]]:
    devices: dict[torch.device, list[tuple[int, Tensor]]] = {}
    for position, digest in waiting:
        devices.setdefault(digest.device, []).append((position, digest))
    for members in devices.values():
        numbers = torch.stack([digest for _, digest in members]).tolist()
        for (position, _), number in zip(members, numbers, strict=True):
            yield position, number % (1 << 64)


def _group_norms(tensors: list[Tensor]) -> list[float]:
    if tensors[0].is_complex():
        tensors = [torch.view_as_real(tensor.resolve_conj()) for tensor in tensors]
    filled = [tensor for tensor in tensors if tensor.numel()]
    if not filled:
        return [0.0] * len(tensors)
    if filled[0].element_size() == 1:
        filled = [tensor.to(torch.float32) for tensor in filled]
    lengths = torch._foreach_norm(filled, 2, dtype=torch.promote_types(filled[0].dtype, torch.float32))
    numbers = iter(torch.stack(lengths).to(torch.float32).tolist())
    return [float(next(numbers)) if tensor.numel() else 0.0 for tensor in tensors]
