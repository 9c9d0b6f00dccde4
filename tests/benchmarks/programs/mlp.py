"""A classifier of three layers (0.1 M parameters) on generated vectors, batch 256, SGD: steps of about 2 ms."""

import torch
import torch.nn.functional as F
from timed import steps, timed
from torch import nn


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    targets = torch.randint(0, 10, (256 * steps(),))
    inputs = torch.randn(10, 64)[targets] + torch.randn(256 * steps(), 64)
    dataset = torch.utils.data.TensorDataset(inputs, targets)
    order = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(dataset), 256, drop_last=False)
    loader = torch.utils.data.DataLoader(dataset, sampler=order, batch_size=None)

    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for data, target in timed(loader):
        optimizer.zero_grad()
        F.cross_entropy(model(data), target).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
