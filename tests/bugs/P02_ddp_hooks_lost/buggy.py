"""Data-parallel training on two processes, with an evaluation in double precision in the middle."""

from __future__ import annotations

import argparse
import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.run import main as torchrun
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def evaluate(model, inputs, labels):
    model.eval()
    with torch.no_grad():
        return F.cross_entropy(model.module(inputs), labels).item()


def parameter_spread(model):
    norm = sum(p.detach().double().pow(2).sum() for p in model.parameters())
    norms = [torch.zeros_like(norm) for _ in range(dist.get_world_size())]
    dist.all_gather(norms, norm)
    return (max(norms) - min(norms)).item()


def train(args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(args.seed)
    inputs = torch.randn(24 * args.batch_size, 16)
    labels = (inputs @ torch.randn(16, 5)).argmax(1)
    sampler = DistributedSampler(TensorDataset(inputs, labels), shuffle=True)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=args.batch_size, sampler=sampler)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5)))
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        exact = evaluate(model.double(), inputs.double(), labels)
        model.float()
        spread = parameter_spread(model)
        if dist.get_rank() == 0:
            print(f"epoch {epoch} loss {loss.item():.4f} evaluation {exact:.4f} spread over ranks {spread:.6f}")
    dist.barrier()
    time.sleep(0.2)  # lets gloo free its last tensors: doing so while Python exits would abort the process
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    if "RANK" in os.environ:
        train(args)
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__, *sys.argv[1:]])


if __name__ == "__main__":
    main()
