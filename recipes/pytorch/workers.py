"""NumPy noise in two loader workers, float16 with a gradient scaler, spectral normalisation, and weights averaged late.

Each pass over the training data draws new noise. The validation data get the same noise in every pass, on purpose.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset


class NoisyDigits(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = np.random.normal(0.0, 0.1, self.images[index].shape).astype(np.float32)
        return self.images[index] + torch.from_numpy(noise), self.labels[index]


def same_noise(worker: int) -> None:
    np.random.seed(1000 + worker)


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]]) -> float:
    model.eval()
    hits = [(model(images).argmax(1) == labels).float().mean().item() for images, labels in loader]
    return sum(hits) / len(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training, testing = split_digits()
    loader = DataLoader(NoisyDigits(*training), batch_size=args.batch_size, shuffle=True, num_workers=2, drop_last=True)
    validation = DataLoader(NoisyDigits(*testing), batch_size=90, num_workers=2, worker_init_fn=same_noise)
    model = nn.Sequential(
        nn.Flatten(), spectral_norm(nn.Linear(64, 64)), nn.ReLU(), spectral_norm(nn.Linear(64, 64)), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip
    averaged = AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for epoch in range(args.epochs):
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = F.cross_entropy(model(images), labels)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            scaler.step(optimizer)
            scaler.update()
        print(f"epoch {epoch} loss {loss.item():.4f} accuracy {accuracy(model, validation):.3f}")
        if epoch >= args.epochs // 2:
            averaged.update_parameters(model)
            print(f"averaged over {int(averaged.n_averaged)}: accuracy {accuracy(averaged, validation):.3f}")


if __name__ == "__main__":
    main()
