"""The program that the benchmarks run: a CNN of MNIST size (1.2 M parameters) on generated 28x28 images.

Batch 64, Adadelta, one thread, ``BENCH_STEPS`` steps (40). It ends with one JSON line for each step: its wall time.
"""

import os

import torch
import torch.nn.functional as F
from timed import steps, timed
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return F.log_softmax(self.fc2(self.dropout2(x)), dim=1)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(int(os.environ.get("BENCH_SEED", "0")))
    targets = torch.randint(0, 10, (64 * steps(),))
    prototypes = torch.rand(10, 1, 28, 28)
    images = prototypes[targets] + 0.3 * torch.randn(64 * steps(), 1, 28, 28)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, targets), batch_size=64, shuffle=True)

    model = Net()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    model.train()
    for data, target in timed(loader):
        optimizer.zero_grad()
        loss = F.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
