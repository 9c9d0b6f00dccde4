"""Fine-tune a digits classifier: keep the body, train a new head."""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build_model():
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())
    return nn.Sequential(body, nn.Linear(64, 10))


def prepare_for_finetuning(model):
    for module in model.modules():
        if not isinstance(module, nn.BatchNorm1d):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = False
    model[1] = nn.Linear(64, 10)
    for parameter in model[1].parameters():
        parameter.requires_grad = False
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", default="SGD", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    train_loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(images[1400:], labels[1400:]), batch_size=200)
    model = prepare_for_finetuning(build_model())
    criterion = nn.CrossEntropyLoss()
    optimizer = getattr(torch.optim, args.optimizer)(model[1].parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        running_loss = 0.0
        for inputs, target in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), target)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        model.eval()
        with torch.no_grad():
            correct = sum((model(inputs).argmax(1) == target).sum().item() for inputs, target in test_loader)
        print(f"epoch {epoch} loss {running_loss / len(train_loader):.4f} correct {correct}")


if __name__ == "__main__":
    main()
