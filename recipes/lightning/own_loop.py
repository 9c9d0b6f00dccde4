"""A loop of one's own with Fabric: accumulation, clipping, evaluation after each epoch, a checkpoint."""

from __future__ import annotations

import tempfile
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from inputs import loaders, options
from torch import nn


def make_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10))


@torch.no_grad()
def evaluate(model: nn.Module, batches: object) -> float:
    model.eval()
    right = [(model(images).argmax(1) == labels).float().mean() for images, labels in batches]
    model.train()
    return torch.stack(right).mean().item()


def main() -> None:
    parser = options(__doc__, batch_size=16)
    parser.add_argument("--accumulation", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    fabric = L.Fabric(accelerator="cpu")
    fabric.seed_everything(args.seed)
    training, validation = fabric.setup_dataloaders(*loaders(args.batch_size))
    net = make_model()
    model, optimizer = fabric.setup(net, torch.optim.AdamW(net.parameters(), lr=args.lr))

    with tempfile.TemporaryDirectory() as output:
        checkpoint = Path(output) / "digits.ckpt"
        for epoch in range(args.epochs):
            model.train()
            for number, (images, labels) in enumerate(training, start=1):
                accumulating = number % args.accumulation != 0
                with fabric.no_backward_sync(model, enabled=accumulating):
                    loss = F.cross_entropy(model(images), labels)
                    fabric.backward(loss / args.accumulation)
                if not accumulating:
                    fabric.clip_gradients(model, optimizer, max_norm=1.0)
                    optimizer.step()
                    optimizer.zero_grad()
            fabric.print(f"epoch {epoch} loss {loss.item():.4f} accuracy {evaluate(model, validation):.3f}")
            fabric.save(checkpoint, {"model": model, "optimizer": optimizer, "epoch": epoch})

        restored = make_model()
        restored.load_state_dict(torch.load(checkpoint)["model"])
        print(f"restored accuracy {evaluate(restored, validation):.3f}")


if __name__ == "__main__":
    main()
