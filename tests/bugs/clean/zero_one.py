"""ZeRO-1 in bfloat16 on two processes: shards of the optimizer, clipping by the engine, evaluation in between."""

from __future__ import annotations

import os
import sys
import time

import deepspeed
import deepspeed.ops
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.run import main as torchrun


def train():
    torch.set_num_threads(1)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(7)
    teacher = torch.randn(12, 3)
    model = nn.Sequential(nn.Linear(12, 40), nn.LayerNorm(40), nn.GELU(), nn.Dropout(0.1), nn.Linear(40, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    config = {
        "train_micro_batch_size_per_gpu": 16,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 0.5,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 1},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    generator = torch.Generator().manual_seed(dist.get_rank())
    for step in range(30):
        engine.train()
        inputs = torch.randn(16, 12, generator=generator)
        loss = F.cross_entropy(engine(inputs.bfloat16()).float(), (inputs @ teacher).argmax(1))
        engine.backward(loss)
        engine.step()
        if step % 10 == 9:
            engine.eval()
            with torch.no_grad():
                engine(inputs.bfloat16())
    print(f"rank {dist.get_rank()} steps {engine.global_steps} loss {loss.item():.4f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        train()
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])
