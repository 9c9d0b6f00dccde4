"""Two ranks that train together are checked together, live, in the process: what differs is found at its step."""

from __future__ import annotations

import sys
from pathlib import Path

from traincheck.invariant import Evidence, Invariant
from traincheck.launch import check_command
from traincheck.precondition import ALWAYS

TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2"]

EVIDENCE = Evidence(examples=10, steps=10, runs=1, programs=1, confidence=0.99)
EQUAL_ON_RANKS = Invariant(
    "Consistent", {"kind": "param", "across": "ranks"}, ALWAYS, "Parameters are equal on all ranks.", EVIDENCE
)

PROGRAM = """
import os, sys
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
    dist.destroy_process_group()
"""


def run(tmp_path: Path, trouble: str) -> tuple[int, list[tuple[int, int, int]], list[str]]:
    """Status of the program, step, number of steps and rank of each finding, and the notes."""
    (tmp_path / "train.py").write_text(PROGRAM)
    status, result = check_command([*TORCHRUN, str(tmp_path / "train.py"), trouble], [EQUAL_ON_RANKS])
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
