"""ZeRO on two processes, or one: the engine accumulates, clips, steps, and moves the learning rate.

Starts its own processes, or runs under ``torchrun --nproc-per-node 2`` and ``deepspeed``.
"""

from __future__ import annotations

import argparse

import deepspeed
import torch
import torch.distributed as dist
import torch.nn.functional as F
from setting import arguments, configuration, leave, make_model, run, split_digits
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def train(args: argparse.Namespace) -> None:
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(args.seed)
    training, (images, labels) = split_digits()
    data = TensorDataset(*training)
    sampler = DistributedSampler(data, num_replicas=dist.get_world_size(), rank=dist.get_rank(), seed=args.seed)
    loader = DataLoader(data, batch_size=args.batch_size, sampler=sampler, drop_last=True)
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10))
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, lr_scheduler=scheduler, config=configuration(args)
    )
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        engine.train()
        for inputs, target in loader:
            loss = F.cross_entropy(engine(inputs.to(dtype)).float(), target)
            engine.backward(loss)
            engine.step()
        engine.eval()
        with torch.no_grad():
            accuracy = (engine(images.to(dtype)).argmax(1) == labels).float().mean().item()
        if dist.get_rank() == 0:
            print(f"epoch {epoch} loss {loss.item():.4f} accuracy {accuracy:.3f} steps {engine.global_steps}")
    leave()


if __name__ == "__main__":
    run(train, arguments(__doc__).parse_args())
