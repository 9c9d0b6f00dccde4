"""A net whose first stage is frozen, random shifts in two loader workers, and a run that goes on in the middle."""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class ShiftedDigits(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        shift = random.randint(-1, 1)
        return torch.roll(self.images[index], shift, dims=2), self.labels[index]


class StagedNet(nn.Module):
    def __init__(self, frozen_stages: int) -> None:
        super().__init__()
        self.frozen_stages = frozen_stages
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in ((1, 8), (8, 16))
        )
        self.head = nn.Linear(16 * 16, 10)
        for stage in self.stages[:frozen_stages]:
            stage.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.head(F.avg_pool2d(x, 2).flatten(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=72)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training, testing = split_digits()
    loader = DataLoader(ShiftedDigits(*training), batch_size=args.batch_size, shuffle=True, num_workers=2)

    def new() -> tuple[StagedNet, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        model = StagedNet(frozen_stages=1)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.NAdam(trained, lr=args.lr)
        return model, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)

    model, optimizer, schedule = new()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "halfway.pt"
        for epoch in range(args.epochs):
            if epoch == args.epochs // 2:
                parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
                torch.save({name: part.state_dict() for name, part in parts.items()}, path)
                model, optimizer, schedule = new()
                state = torch.load(path)
                model.load_state_dict(state["model"])
                optimizer.load_state_dict(state["optimizer"])
                schedule.load_state_dict(state["schedule"])
            model.train()
            for stage in model.stages[: model.frozen_stages]:
                stage.eval()
            for images, labels in loader:
                loss = F.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            model.eval()
            with torch.no_grad():
                accuracy = (model(testing[0]).argmax(1) == testing[1]).float().mean().item()
            print(f"epoch {epoch} loss {loss.item():.4f} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
