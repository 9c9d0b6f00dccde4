"""Where a variable lies is known from wrappers, meshes and marks, without the user saying anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from traincheck.record.placement import place_of
from traincheck.trace import open_trace

BIN = Path(sys.executable).parent

PROGRAM = """
import time
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.nn.parallel import DistributedDataParallel

class Plain(nn.Linear): ...
class Wrapped(nn.Linear): ...
class Ignored(nn.Linear): ...
class Flat(nn.Linear): ...
class Original(nn.Linear): ...
class Whole(nn.Linear): ...
class Sharded(nn.Linear): ...
class Hybrid(nn.Linear): ...

dist.init_process_group("gloo")
cpu = torch.device("cpu")
ignored = Ignored(8, 8)
ignored._ddp_params_and_buffers_to_ignore = ["bias"]
models = [
    Plain(8, 8),
    DistributedDataParallel(Wrapped(8, 8)),
    DistributedDataParallel(ignored),
    FullyShardedDataParallel(Flat(8, 8), device_id=cpu),
    FullyShardedDataParallel(Original(8, 8), device_id=cpu, use_orig_params=True),
    FullyShardedDataParallel(Whole(8, 8), device_id=cpu, sharding_strategy=ShardingStrategy.NO_SHARD),
    fully_shard(Sharded(8, 8), mesh=init_device_mesh("cpu", (2,))),
    fully_shard(Hybrid(8, 8), mesh=init_device_mesh("cpu", (2, 1), mesh_dim_names=("copies", "shards"))),
]
for model in models:
    model(torch.ones(2, 8)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
dist.barrier()
time.sleep(0.2)
"""


def test_each_wrapper_says_where_its_parameters_lie(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    torchrun = [BIN / "torchrun", "--standalone", "--nproc-per-node", "2", tmp_path / "train.py"]
    done = subprocess.run(
        [BIN / "traincheck-collect", "-o", tmp_path / "trace", "--", *torchrun],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    places: dict[str, set[tuple[str, tuple[int, ...]]]] = {}
    for window in open_trace(tmp_path / "trace").windows():
        if window.named("optimizer.step"):
            for variable in window.variables.values():
                places.setdefault(variable.name.partition(".")[0], set()).add((variable.placement, variable.replicas))

    assert {
        "Plain": {("local", ())},
        "Wrapped": {("replicated", (0, 1))},
        "Ignored": {("replicated", (0, 1)), ("local", ())},
        "Flat": {("sharded", ())},
        "Original": {("sharded", ())},
        "Whole": {("replicated", (0, 1))},
        "Sharded": {("sharded", ())},
        "Hybrid": {("copied", (0, 1))},
    } == places


@pytest.mark.parametrize(
    ("mark", "value", "placement"),
    [
        ("tensor_model_parallel", True, "sharded"),
        ("tensor_model_parallel", False, "replicated"),
        ("allreduce", False, "sharded"),
        ("allreduce", True, "local"),
        ("nothing", None, "local"),
    ],
)
def test_marks_that_megatron_gave_its_parameters_count(mark: str, value: object, placement: str) -> None:
    parameter = nn.Parameter(torch.zeros(2))
    setattr(parameter, mark, value)

    assert (placement, ()) == place_of(parameter)
