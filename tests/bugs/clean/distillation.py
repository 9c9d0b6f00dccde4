"""Distil features and logits of a frozen teacher, in eval mode, into a student; a hook reads the teacher's features."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.features(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=args.batch_size, shuffle=True)
    teacher, student, projection = Net(96), Net(24), nn.Linear(24, 96)
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad = False
    seen = {}
    teacher.features.register_forward_hook(lambda module, inputs, output: seen.update(features=output))

    trained = [*student.parameters(), *projection.parameters()]
    optimizer = getattr(torch.optim, args.optimizer)(trained, lr=args.lr)
    for epoch in range(args.epochs):
        student.train()
        for inputs, target in loader:
            with torch.inference_mode():
                teacher_logits = teacher(inputs)
            features = student.features(inputs)
            logits = student.head(features)
            soft = F.kl_div(logits.log_softmax(1), teacher_logits.clone().softmax(1), reduction="batchmean")
            hint = F.mse_loss(projection(features), seen["features"].clone())
            loss = F.cross_entropy(logits, target) + 0.1 * soft + 0.1 * hint
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        student.eval()
        with torch.no_grad():
            accuracy = (student(images[1400:]).argmax(1) == labels[1400:]).float().mean().item()
        print(f"epoch {epoch} loss {loss.item():.4f} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
