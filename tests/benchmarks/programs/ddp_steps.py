"""Data-parallel steps, every other block of them checked; prints the time of each as JSON.

Recorded and left-out steps lie side by side in one run, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import json
import os
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import traincheck

WIDTH = 768
BLOCK = 8
BATCH = int(os.environ.get("BENCH_BATCH", "430"))
CHECKED = {"ranks": {"select": "DST"}, "all": {}, "all but ranks": {"ignore": "DST"}}
"""Which invariants of the pack: those across ranks, all, or the others."""


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    layers = [layer for _ in range(5) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    model = DistributedDataParallel(nn.Sequential(*layers, nn.Linear(WIDTH, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(dist.get_rank())
    watch = traincheck.watch(overhead=None, **CHECKED[os.environ.get("BENCH_CHECKED", "ranks")])
    period = 2 * BLOCK
    watch.session.decide = lambda step: step if step % period < BLOCK else step - step % period + period
    began, used = time.perf_counter(), time.process_time()
    for step in range(int(os.environ["BENCH_STEPS"])):
        inputs = torch.randn(BATCH, WIDTH, generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), inputs[:, :10].argmax(1)).backward()
        optimizer.step()
        if dist.get_rank() == 0:
            began, before = time.perf_counter(), began
            used, used_before = time.process_time(), used
            taken = {"ms": round(1000 * (began - before), 3), "cpu_ms": round(1000 * (used - used_before), 3)}
            print(json.dumps({"step": step, **taken}), flush=True)
    assert not watch.findings
    watch.close()
    dist.barrier()
    time.sleep(0.2)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
