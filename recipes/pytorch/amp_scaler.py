"""Mixed precision in float16 with a gradient scaler: unscale, clip, and a step skipped when gradients overflow."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from data import split_digits
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset


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

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    scheduler = OneCycleLR(optimizer, max_lr=args.lr, total_steps=args.epochs * len(train_loader))
    # The scale doubles every 12 steps, until the scaled gradients no longer fit into float16 and one step is skipped.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**15, growth_interval=12)

    for epoch in range(args.epochs):
        model.train()
        for images, target in train_loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                output = model(images)
                loss = F.cross_entropy(output, target)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scale_before = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() >= scale_before:
                scheduler.step()
            else:
                print(f"overflow: step skipped, scale {scale_before:.0f} -> {scaler.get_scale():.0f}")

        model.eval()
        correct = 0
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
            for images, target in test_loader:
                correct += int((model(images).argmax(1) == target).sum())
        print(f"epoch {epoch} loss {loss.item():.4f} accuracy {correct / len(testing[0]):.3f}")


if __name__ == "__main__":
    main()
