"""Train with an exponential moving average of the weights, and evaluate the average after each epoch."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> float:
    model.eval()
    correct, total = 0, 0
    for images, target in loader:
        correct += int((model(images).argmax(1) == target).sum())
        total += len(target)
    return correct / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--decay", type=float, default=0.9)
    parser.add_argument("--output", type=Path, help="where the checkpoint goes (default: a temporary directory)")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training, testing = split_digits()
    train_loader = DataLoader(TensorDataset(*training), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(*testing), batch_size=180)

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.decay), use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True)

    for epoch in range(args.epochs):
        model.train()
        for images, target in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), target)
            loss.backward()
            optimizer.step()
            averaged.update_parameters(model)
        print(
            f"epoch {epoch} loss {loss.item():.4f} accuracy {accuracy(model, test_loader):.3f} "
            f"averaged {accuracy(averaged, test_loader):.3f}"
        )

    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = (args.output or Path(scratch)) / "ema.pt"
        torch.save(averaged.module.state_dict(), checkpoint)
        model.load_state_dict(torch.load(checkpoint))
    print(f"restored accuracy {accuracy(model, test_loader):.3f}")


if __name__ == "__main__":
    main()
