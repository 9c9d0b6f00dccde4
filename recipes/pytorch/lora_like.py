"""Fine-tune a frozen network through low-rank adapters: B starts at zero, so the first step gives A no gradient."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class LowRankLinear(nn.Module):
    """``base(x) + scale * B A x``, where only A and B train."""

    def __init__(self, base: nn.Linear, rank: int, scale: float = 2.0) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)


def make_net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))


def add_adapters(net: nn.Sequential, rank: int) -> None:
    net.requires_grad_(False)
    for position, layer in enumerate(net):
        if isinstance(layer, nn.Linear):
            net[position] = LowRankLinear(layer, rank)


def train_epoch(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]], optimizer: torch.optim.Optimizer) -> float:
    model.train()
    for images, target in loader:
        loss = F.cross_entropy(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    return (model(images).argmax(1) == labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--output", type=Path, help="where the adapters go (default: a temporary directory)")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    (images, labels), (test_images, test_labels) = split_digits()
    base_loader = DataLoader(TensorDataset(images, labels), batch_size=args.batch_size, shuffle=True)
    # The new task: the same digits, upside down.
    turned_loader = DataLoader(TensorDataset(images.flip(2), labels), batch_size=args.batch_size, shuffle=True)

    model = make_net()
    train_epoch(model, base_loader, torch.optim.Adam(model.parameters(), lr=3e-3))
    add_adapters(model, args.rank)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=args.lr)
    for epoch in range(args.epochs):
        loss = train_epoch(model, turned_loader, optimizer)
        print(f"epoch {epoch} loss {loss:.4f} accuracy {accuracy(model, test_images.flip(2), test_labels):.3f}")

    with tempfile.TemporaryDirectory() as scratch:
        path = (args.output or Path(scratch)) / "adapters.pt"
        torch.save({name: value for name, value in model.state_dict().items() if "lora_" in name}, path)
        missing, unexpected = model.load_state_dict(torch.load(path), strict=False)
    print(f"adapters restored, {len(missing)} frozen tensors kept, {len(unexpected)} unexpected")


if __name__ == "__main__":
    main()
