"""A loop with Accelerate on two processes. The first argument says what is wrong with it."""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.local_sgd import LocalSGD
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main(trouble: str) -> None:
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    points = torch.randn(128, 8)
    loader = DataLoader(TensorDataset(points, (points.sum(1) > 0).long()), batch_size=8, shuffle=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.1))
    if trouble != "model":
        model = accelerator.prepare(model)
    if trouble != "loader":
        loader = accelerator.prepare(loader)
    with LocalSGD(accelerator, model, local_sgd_steps=4, enabled=trouble == "local steps") as local:
        for features, labels in loader:
            accelerator.backward(F.cross_entropy(model(features), labels))
            optimizer.step()
            optimizer.zero_grad()
            local.step()
    accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1])
