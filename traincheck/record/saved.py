"""Checkpoints on disk: the tensors in a file or folder, read without running anything that it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

NAMES: Final = ("model", "pytorch_model", "adapter_model")
"""Weights lie in files of these names, or in shards that an index of such a name lists."""

NESTED: Final = ("current_model_state", "state_dict")
"""Under these names a checkpoint of Lightning holds the weights: the first is there when the second holds averages."""


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of the checkpoint at ``path``; empty where their format is not known."""
    if path.is_file():
        return [path]
    for name in NAMES:
        for suffix in (".safetensors", ".bin"):
            index = path / f"{name}{suffix}.index.json"
            if index.is_file():
                shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
                return [path / shard for shard in sorted(set(shards))]
            if (path / f"{name}{suffix}").is_file():
                return [path / f"{name}{suffix}"]
    return []


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name and content of every tensor there, mapped from the file rather than read at once where that is possible."""
    return {name: tensor for file in weight_files(path) for name, tensor in _tensors(file)}


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, framework="pt") as opened:
            yield from ((name, opened.get_tensor(name)) for name in opened.keys())  # noqa: SIM118  # no mapping
        return
    found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    weights = next((found[name] for name in NESTED if name in found), found)
    yield from ((name, value) for name, value in weights.items() if isinstance(value, Tensor))
