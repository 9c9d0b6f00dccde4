"""Fine-tune a new head on a frozen, pretrained backbone whose BatchNorm statistics stay as they are."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(nn.Module):
    def __init__(self, classes: int, freeze_backbone: bool = False) -> None:
        super().__init__()
        self.freeze_backbone = freeze_backbone
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.backbone.requires_grad_(not freeze_backbone)
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def pretrain(model: Classifier, images: Tensor, labels: Tensor, batch_size: int) -> None:
    """Even or odd: stands for the large data set that a backbone usually comes from."""
    loader = DataLoader(TensorDataset(images, labels % 2), batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for image, target in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(image), target).backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    (images, labels), testing = split_digits()
    pretrained = Classifier(classes=2)
    pretrain(pretrained, images[:500], labels[:500], args.batch_size)

    model = Classifier(classes=10, freeze_backbone=True)
    model.backbone.load_state_dict(pretrained.backbone.state_dict())
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=args.lr, momentum=0.9)

    train_loader = DataLoader(TensorDataset(images[500:], labels[500:]), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(*testing), batch_size=180)
    for epoch in range(args.epochs):
        model.train()
        model.backbone.eval()
        for image, target in train_loader:
            loss = F.cross_entropy(model(image), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        model.eval()
        with torch.no_grad():
            correct = sum(int((model(image).argmax(1) == target).sum()) for image, target in test_loader)
        print(f"epoch {epoch} loss {loss.item():.4f} accuracy {correct / len(testing[0]):.3f}")


if __name__ == "__main__":
    main()
