"""Classify handwritten digits with a small ResNet, and keep the checkpoint that validates best."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = Block(width, width, 1)
        self.layer2 = Block(width, 2 * width, 2)
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(x.mean(dim=(2, 3)))


def validate(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]], criterion: nn.Module) -> float:
    model.eval()
    correct, total, loss = 0, 0, 0.0
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            loss += criterion(output, target).item() * len(target)
            correct += int((output.argmax(1) == target).sum())
            total += len(target)
    print(f"validation loss {loss / total:.4f} accuracy {correct / total:.3f}")
    return correct / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--anneal-per", choices=("epoch", "step"), default="epoch")
    parser.add_argument("--output", type=Path, help="where the checkpoint goes (default: a temporary directory)")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training, validation = split_digits()
    train_loader = DataLoader(TensorDataset(*training), batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(TensorDataset(*validation), batch_size=180)

    model = ResNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    by_step = args.anneal_per == "step"
    scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs * (len(train_loader) if by_step else 1))

    with tempfile.TemporaryDirectory() as scratch:
        best_path = (args.output or Path(scratch)) / "resnet_best.pt"
        best = -1.0
        for epoch in range(args.epochs):
            model.train()
            for images, target in train_loader:
                output = model(images)
                loss = criterion(output, target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if by_step:
                    scheduler.step()
            if not by_step:
                scheduler.step()
            accuracy = validate(model, val_loader, criterion)
            if accuracy > best:
                best = accuracy
                torch.save(
                    {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, best_path
                )
            print(f"epoch {epoch} loss {loss.item():.4f} lr {scheduler.get_last_lr()[0]:.4f} best {best:.3f}")

        checkpoint = torch.load(best_path)
        model.load_state_dict(checkpoint["model"])
        print(f"best epoch {checkpoint['epoch']}")
        validate(model, val_loader, criterion)


if __name__ == "__main__":
    main()
