"""Classify handwritten digits with a small CNN: the shape of the MNIST example of pytorch/examples."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1)
        self.conv2 = nn.Conv2d(16, 32, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(4608, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.max_pool2d(x, 2)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = self.dropout2(x)
        return F.log_softmax(self.fc2(x), dim=1)


def train(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]], optimizer: optim.Optimizer, epoch: int) -> None:
    model.train()
    for batch, (image, target) in enumerate(loader):
        optimizer.zero_grad()
        loss = F.nll_loss(model(image), target)
        loss.backward()
        optimizer.step()
        if batch % 10 == 0:
            print(f"epoch {epoch} batch {batch} loss {loss.item():.4f}")


def test(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> None:
    model.eval()
    loss, correct, total = 0.0, 0, 0
    with torch.no_grad():
        for image, target in loader:
            output = model(image)
            loss += F.nll_loss(output, target, reduction="sum").item()
            correct += int((output.argmax(dim=1) == target).sum())
            total += len(target)
    print(f"test loss {loss / total:.4f} accuracy {correct / total:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--gamma", type=float, default=0.7)
    parser.add_argument("--optimizer", choices=("adadelta", "sgd"), default="adadelta")
    parser.add_argument("--output", type=Path, help="where the checkpoints go (default: a temporary directory)")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training, testing = split_digits(size=28)
    train_loader = DataLoader(TensorDataset(*training), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(*testing), batch_size=180)

    model = Net()
    optimizer: optim.Optimizer
    if args.optimizer == "adadelta":
        optimizer = optim.Adadelta(model.parameters(), lr=args.lr)
    else:
        optimizer = optim.SGD(model.parameters(), lr=0.1 * args.lr, momentum=0.9)
    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)

    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = (args.output or Path(scratch)) / "digits_cnn.pt"
        for epoch in range(1, args.epochs + 1):
            train(model, train_loader, optimizer, epoch)
            test(model, test_loader)
            scheduler.step()
            torch.save(model.state_dict(), checkpoint)

        restored = Net()
        restored.load_state_dict(torch.load(checkpoint))
        test(restored, test_loader)


if __name__ == "__main__":
    main()
