"""Two ranks that train together are checked together, live, in the process: what differs is found at its step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from traincheck.invariant import Evidence, Invariant
from traincheck.launch import check_command
from traincheck.precondition import ALWAYS
from traincheck.zoo import load_pack


def torchrun(processes: int) -> list[str]:
    return [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", str(processes)]


EVIDENCE = Evidence(examples=10, steps=10, runs=1, programs=1, confidence=0.99)
EQUAL_ON_RANKS = Invariant(
    "Consistent", {"kind": "param", "across": "ranks"}, ALWAYS, "Parameters are equal on all ranks.", EVIDENCE
)

SIZES = {"call": "collective.", "argument": "numel", "how": "same on ranks", "other": ""}
SIZES_EQUAL = Invariant("APIArg", SIZES, ALWAYS, "Sizes are equal on all ranks.", EVIDENCE)

PROGRAM = """
import os, sys, time
import torch
import torch.distributed as dist

trouble = sys.argv[1]
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(6):
    if trouble == "dies" and step == 4:
        os._exit(0) if rank == 1 else None
        net = net.module
    optimizer.zero_grad()
    net(torch.ones(2, 4) * (rank + 1)).sum().backward()
    optimizer.step()
    if trouble == "diverges" and rank == 1 and step == 2:
        net.module.weight.data.mul_(2)
if trouble != "dies":
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()
"""


MESH_PROGRAM = """
import sys, time
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module

dist.init_process_group("gloo")
rank = dist.get_rank()
mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
torch.manual_seed(0)
net = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
plan = {"0": SequenceParallel(), "1": ColwiseParallel(input_layouts=Shard(1)), "3": RowwiseParallel()}
parallelize_module(net, mesh["tensor"], plan)
fully_shard(net, mesh=mesh["data"])
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
generator = torch.Generator().manual_seed(rank // 2)
for step in range(5):
    optimizer.zero_grad()
    net(torch.randn(4, 6, 8, generator=generator)).square().mean().backward()
    optimizer.step()
    if sys.argv[1] == "diverges" and step == 2 and rank == 3:
        net[0].weight.to_local().data.mul_(1.5)
dist.barrier()
time.sleep(0.2)
dist.destroy_process_group()
"""

HYBRID_PROGRAM = """
import sys, time
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
net = FullyShardedDataParallel(
    nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)),
    device_mesh=init_device_mesh("cpu", (2, 2)),
    sharding_strategy=ShardingStrategy.HYBRID_SHARD,
    use_orig_params=True,
    device_id=torch.device("cpu"),
)
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(6):
    optimizer.zero_grad()
    net(torch.ones(2, 16) * (rank + 1)).sum().backward()
    if step == 3 and rank == 3 and sys.argv[1] == "diverges":
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(2)
    optimizer.step()
dist.barrier()
time.sleep(0.2)
dist.destroy_process_group()
"""

PIPELINE_PROGRAM = """
import time
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
stages = nn.Sequential(nn.Linear(16, 16), nn.ReLU()), nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
stage = PipelineStage(stages[rank], rank, 2, torch.device("cpu"))
schedule = ScheduleGPipe(stage, n_microbatches=2, loss_fn=F.cross_entropy)
optimizer = torch.optim.Adam(stages[rank].parameters(), lr=0.01)
for step in range(6):
    optimizer.zero_grad()
    inputs = torch.randn(8, 16, generator=torch.Generator().manual_seed(step))
    if rank == 0:
        schedule.step(inputs)
    else:
        schedule.step(target=inputs[:, :4].argmax(1))
    optimizer.step()
dist.barrier()
time.sleep(0.2)
dist.destroy_process_group()
"""

EXCHANGE_PROGRAM = """
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
rank = dist.get_rank()
net = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(6):
    optimizer.zero_grad()
    net(torch.ones(2, 4)).sum().backward()
    sent = torch.ones(8 if step < 3 or rank == 0 else 1000)
    dist.all_to_all_single(torch.empty_like(sent), sent)
    optimizer.step()
"""


def run(tmp_path: Path, trouble: str) -> tuple[int, list[tuple[int, int, int]], list[str]]:
    """Status of the program, step, number of steps and rank of each finding, and the notes."""
    (tmp_path / "train.py").write_text(PROGRAM)
    status, result = check_command([*torchrun(2), str(tmp_path / "train.py"), trouble], [EQUAL_ON_RANKS])
    assert result.exercised == 1
    return status, [(finding.step, finding.steps, finding.rank) for finding in result.findings], list(result.notes)


def test_ranks_that_stay_together_are_clean_up_to_the_last_step(tmp_path: Path) -> None:
    assert (0, [], []) == run(tmp_path, "stays")


def test_a_rank_that_diverges_is_found_at_that_step_on_all_that_follow(tmp_path: Path) -> None:
    assert (0, [(3, 3, 0)], []) == run(tmp_path, "diverges")


def test_a_rank_that_dies_blocks_nobody_and_is_said(tmp_path: Path) -> None:
    _, findings, notes = run(tmp_path, "dies")

    assert [] == findings
    assert any("rank 1) ended without a word" in note for note in notes)
    assert any("could not be compared" in note for note in notes)


def test_among_three_ranks_the_odd_one_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)

    _, result = check_command([*torchrun(3), str(tmp_path / "train.py"), "diverges"], [EQUAL_ON_RANKS])

    (finding,) = result.findings
    assert 3 == finding.step
    assert "Linear.weight on rank 1 differs from the 2 other ranks" in finding.message


@pytest.mark.slow
def test_on_a_mesh_only_the_ranks_with_the_same_shard_are_compared(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(MESH_PROGRAM)
    command = [*torchrun(4), str(tmp_path / "train.py")]
    where_replicated = [found for found in load_pack("pytorch").invariants if found.code == "DST005"]

    _, clean = check_command([*command, "stays"], where_replicated)
    _, broken = check_command([*command, "diverges"], where_replicated)

    assert ((), 1) == (clean.findings, len(clean.held))
    (finding,) = broken.findings
    assert 3 == finding.step
    assert "Sequential.0.weight differs between ranks 2, 3" in finding.message


@pytest.mark.slow
def test_under_hybrid_sharding_replicas_of_a_shard_are_compared(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(HYBRID_PROGRAM)
    command = [*torchrun(4), str(tmp_path / "train.py")]
    pack = load_pack("pytorch").invariants

    _, clean = check_command([*command, "stays"], pack)
    _, broken = check_command([*command, "diverges"], pack)

    assert () == clean.findings
    assert {"DST004", "DST005"} <= {invariant.code for invariant in clean.held}
    (finding,) = broken.findings
    assert ("DST004", 3) == (finding.code, finding.step)
    assert "differs between ranks 1, 3" in finding.message


def test_stages_of_a_pipeline_hold_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PIPELINE_PROGRAM)

    status, result = check_command([*torchrun(2), str(tmp_path / "train.py")], load_pack("pytorch").invariants)

    assert (0, (), 6) == (status, result.findings, result.steps)


def test_what_ranks_were_about_to_send_is_compared_when_it_ends_them(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(EXCHANGE_PROGRAM)

    status, result = check_command([*torchrun(2), str(tmp_path / "train.py")], [SIZES_EQUAL])

    assert status != 0
    (finding,) = result.findings
    assert 3 == finding.step
    assert "8 on rank 0, 1000 on rank 1" in finding.message


WATCHED = """
import logging, sys
import torch
import torch.distributed as dist
import traincheck

dist.init_process_group("gloo")
logging.basicConfig(level=logging.WARNING, format=f"rank {dist.get_rank()}: %(message)s")
torch.manual_seed(0)
net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
with traincheck.watch(net, optimizer, select=sys.argv[1].split(",")):
    for step in range(int(sys.argv[2])):
        optimizer.zero_grad()
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
dist.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("select", "steps", "unchecked"),
    [("DST004,DST005", 5, []), ("DST004,DST005,CKP004", 5, [1]), ("DST005", 0, [0, 1])],
)
def test_a_rank_with_nothing_to_judge_by_itself_does_not_call_the_run_unchecked(
    tmp_path: Path, select: str, steps: int, unchecked: list[int]
) -> None:
    (tmp_path / "train.py").write_text(WATCHED)
    command = [*torchrun(2), str(tmp_path / "train.py"), select, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert 0 == done.returncode, done.stderr[-3000:]
    assert unchecked == [rank for rank in (0, 1) if f"rank {rank}: TrainCheck: NOT CHECKED" in done.stderr]
