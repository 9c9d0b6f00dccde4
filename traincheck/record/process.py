"""Facts about this process, and where in it the user's own project lies."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import torch

from traincheck.events import Process

_FRAMEWORKS = ("transformers", "lightning", "pytorch_lightning", "accelerate", "deepspeed", "numpy")


def describe_process(framework: str) -> Process:
    """Rank, world size and versions, as they are now."""
    rank, world_size = _place()
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for name in _FRAMEWORKS:
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            versions[name] = version
    return Process(rank, world_size, os.getpid(), framework, versions)


def project_directory() -> Path:
    """The directory of the script that runs, or the current one."""
    script = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path()
    return (script.parent if script.is_file() else Path()).resolve()


def _place() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return _number("RANK", 0), _number("WORLD_SIZE", 1)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
