"""Clipping by FSDP's own method is a clipping like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from traincheck.trace import open_trace

BIN = Path(sys.executable).parent

PROGRAM = """
import sys
import time
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

dist.init_process_group("gloo")
torch.manual_seed(0)
strategy = ShardingStrategy[sys.argv[1]]
layer = torch.nn.Linear(8, 8)
model = FullyShardedDataParallel(layer, device_id=torch.device("cpu"), sharding_strategy=strategy, use_orig_params=True)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    model(100 * torch.ones(2, 8)).square().sum().backward()
    model.clip_grad_norm_(max_norm=0.5)
    optimizer.step()
dist.barrier()
time.sleep(0.2)
"""


@pytest.mark.parametrize(
    ("strategy", "api"),
    [
        ("FULL_SHARD", "torch.distributed.fsdp.FullyShardedDataParallel.clip_grad_norm_"),
        ("NO_SHARD", "torch.nn.utils.clip_grad_norm_"),
    ],
)
def test_the_method_of_fsdp_is_recorded_once_as_a_clipping(tmp_path: Path, strategy: str, api: str) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    torchrun = [BIN / "torchrun", "--standalone", "--nproc-per-node", "2", tmp_path / "train.py", strategy]
    done = subprocess.run(
        [BIN / "traincheck-collect", "-o", tmp_path / "trace", "--", *torchrun],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    clips = [call for window in open_trace(tmp_path / "trace").windows() for call in window.named("grad.clip")]

    assert [api] * 6 == [call.api for call in clips]
    assert {0.5} == {call.args["max_norm"] for call in clips}
    assert 3 == len({call.out["total_norm"] for call in clips})  # the same norm on both ranks, another in each step
    assert all(call.out["total_norm"] > 0.5 for call in clips)
