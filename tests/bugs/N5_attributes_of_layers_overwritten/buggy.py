"""ZeRO-3 in one process: a layer of experts, each of which takes the tokens of its own kind."""

from __future__ import annotations

import argparse
import os
import socket

import deepspeed
import deepspeed.ops
import torch
import torch.distributed as dist
import torch.nn.functional as F
from deepspeed.runtime.zero.parameter_offload import DeepSpeedZeRoOffload
from torch import nn

KINDS = 4


class Expert(nn.Module):
    def __init__(self, id, width):
        super().__init__()
        self.id = id
        self.grow = nn.Linear(width, 2 * width)
        self.shrink = nn.Linear(2 * width, width)

    def forward(self, x):
        return self.shrink(F.relu(self.grow(x)))


class Experts(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.experts = nn.ModuleList(Expert(kind, width) for kind in range(KINDS))
        self.head = nn.Linear(width, classes)

    def forward(self, tokens, kinds):
        mixed = tokens
        for expert in self.experts:
            own = (kinds == expert.id).unsqueeze(1)
            mixed = mixed + own * expert(tokens)
        return self.head(mixed)


def number_layers_as_before(register):
    """What DeepSpeed did before it called the number of a layer ``ds_id``."""

    def register_and_number(self, module, *args, **kwargs):
        register(self, module, *args, **kwargs)
        module.id = module.ds_id

    return register_and_number


def train(args):
    torch.set_num_threads(1)
    # On a CPU DeepSpeed would first compile a communication library of its own; gloo serves as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")
    DeepSpeedZeRoOffload._register_deepspeed_module = number_layers_as_before(
        DeepSpeedZeRoOffload._register_deepspeed_module
    )
    torch.manual_seed(args.seed)
    model = Experts(16, 5)
    teachers = torch.randn(KINDS, 16, 5)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    config = {
        "train_micro_batch_size_per_gpu": args.batch_size,
        "zero_optimization": {"stage": 3},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    for step in range(args.steps):
        tokens, kinds = torch.randn(args.batch_size, 16), torch.randint(KINDS, (args.batch_size,))
        labels = torch.einsum("nw,nwc->nc", tokens, teachers[kinds]).argmax(1)
        loss = F.cross_entropy(engine(tokens, kinds), labels)
        engine.backward(loss)
        engine.step()
        if step % 10 == 9:
            print(f"step {step} loss {loss.item():.4f}")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    train(args)


if __name__ == "__main__":
    main()
