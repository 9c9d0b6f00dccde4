"""A small DeepSpeed training, run in processes of its own: ``tiny_deepspeed.py STAGE TROUBLE [watch options as JSON]``.

Prints one JSON object for each rank: the steps, a digest of the weights, and what was found.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack

import deepspeed
import deepspeed.ops
import torch
import torch.distributed as dist
import torch.nn.functional as F
import xxhash
from torch import nn

STEPS = 6


def main(stage: int, trouble: str, options: str | None) -> None:
    torch.set_num_threads(1)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    others = nn.Linear(8, 16).parameters() if trouble == "foreign" else ()
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": stage == 1},
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    optimizer = torch.optim.AdamW([*net.parameters(), *others], lr=0.01)
    engine, *_ = deepspeed.initialize(model=net, optimizer=optimizer, config=config)
    dtype = torch.bfloat16 if stage == 1 else torch.float32
    generator = torch.Generator().manual_seed(rank)
    found: list[tuple[str, int]] = []
    with ExitStack() as stack:
        watch = None
        if options is not None:
            from traincheck.integrations.deepspeed import watch_engine

            watch = stack.enter_context(watch_engine(engine, **json.loads(options)))
        for micro in range(2 * STEPS):
            inputs = torch.randn(4, 8, generator=generator)
            if trouble == "diverges" and micro == 6 and rank == 1:
                net[2].bias.data.add_(1)
            loss = F.cross_entropy(engine(inputs.to(dtype)).float(), inputs[:, :4].argmax(1))
            engine.backward(loss)
            engine.step()
            if watch is not None and watch.should_stop:
                break
        dist.barrier()
        if watch is not None:
            watch.close()
            found = [(finding.code, finding.step) for finding in watch.findings]
    content = b"".join(parameter.detach().float().numpy().tobytes() for parameter in net.parameters())
    told = {"rank": rank, "steps": engine.global_steps, "weights": xxhash.xxh3_64_hexdigest(content), "found": found}
    print(f"TOLD {json.dumps(told)}", flush=True)
    dist.barrier()
    time.sleep(0.2)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
