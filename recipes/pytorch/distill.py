"""Distil a trained teacher into a smaller student: the teacher is frozen, in eval mode and without gradients."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def make_net(width: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10)
    )  # fmt: skip


def accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> float:
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for images, target in loader:
            correct += int((model(images).argmax(1) == target).sum())
            total += len(target)
    return correct / total


def train_teacher(teacher: nn.Module, loader: DataLoader[tuple[Tensor, ...]], lr: float) -> None:
    optimizer = torch.optim.Adam(teacher.parameters(), lr=lr)
    teacher.train()
    for images, target in loader:
        optimizer.zero_grad()
        F.cross_entropy(teacher(images), target).backward()
        optimizer.step()


def distillation_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float = 2.0) -> Tensor:
    soft = F.kl_div(
        F.log_softmax(student / temperature, dim=1), F.softmax(teacher / temperature, dim=1), reduction="batchmean"
    )
    return 0.75 * temperature**2 * soft + 0.25 * F.cross_entropy(student, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training, testing = split_digits()
    train_loader = DataLoader(TensorDataset(*training), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(*testing), batch_size=180)

    teacher = make_net(128, dropout=0.2)
    train_teacher(teacher, train_loader, args.lr)
    teacher.requires_grad_(False)
    print(f"teacher accuracy {accuracy(teacher, test_loader):.3f}")

    student = make_net(24, dropout=0.0)
    optimizer = torch.optim.Adam(student.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        student.train()
        teacher.eval()
        for images, target in train_loader:
            with torch.no_grad():
                teacher_logits = teacher(images)
            loss = distillation_loss(student(images), teacher_logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.4f} accuracy {accuracy(student, test_loader):.3f}")


if __name__ == "__main__":
    main()
