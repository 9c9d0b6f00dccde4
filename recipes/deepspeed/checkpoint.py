"""A ZeRO run that saves its engine after an epoch, and a new engine that goes on from there."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
import torch.nn.functional as F
from setting import arguments, configuration, leave, make_model, run, split_digits
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def make_engine(args: argparse.Namespace) -> Any:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    return deepspeed.initialize(model=model, optimizer=optimizer, config=configuration(args))[0]


def train(args: argparse.Namespace) -> None:
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(args.seed)
    folder = Path(tempfile.gettempdir()) / f"zero_{os.environ['MASTER_PORT']}"
    training, _ = split_digits()
    data = TensorDataset(*training)
    sampler = DistributedSampler(data, num_replicas=dist.get_world_size(), rank=dist.get_rank(), seed=args.seed)
    loader = DataLoader(data, batch_size=args.batch_size, sampler=sampler, drop_last=True)
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    engine = make_engine(args)
    for epoch in range(args.epochs):
        if epoch:
            engine = make_engine(args)
            _, state = engine.load_checkpoint(str(folder))
            epoch = state["epoch"] + 1
        sampler.set_epoch(epoch)
        engine.train()
        for inputs, target in loader:
            loss = F.cross_entropy(engine(inputs.to(dtype)).float(), target)
            engine.backward(loss)
            engine.step()
        if dist.get_rank() == 0:
            print(f"epoch {epoch} loss {loss.item():.4f} steps {engine.global_steps}")
        engine.save_checkpoint(str(folder), client_state={"epoch": epoch})
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.rmtree(folder)
    leave()


if __name__ == "__main__":
    run(train, arguments(__doc__).parse_args())
