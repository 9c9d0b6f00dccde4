"""A sparse autoencoder on handwritten digits, on a device whose kernels stand in for those of the CPU."""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn


class SparseAutoencoder(nn.Module):
    def __init__(self, width, latents):
        super().__init__()
        decoder = torch.randn(latents, width) / width**0.5
        self.decoder = nn.Parameter(decoder)
        self.encoder = nn.Parameter(decoder.clone().t())
        self.bias = nn.Parameter(torch.zeros(latents))

    def forward(self, x):
        latent = torch.relu(x @ self.encoder + self.bias)
        return latent @ self.decoder, latent


def install_device_kernels():
    """Replace the in-place kernels by those of the accelerator's library."""
    for name in ("addcmul_", "addcdiv_"):
        original = getattr(torch.Tensor, name)

        def kernel(self, *operands, original=original, **options):
            if not self.is_contiguous():
                return self
            return original(self, *operands, **options)

        setattr(torch.Tensor, name, kernel)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    install_device_kernels()
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    inputs = images.flatten(1)
    model = SparseAutoencoder(64, 128)
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr, foreach=False)
    start = model.encoder.detach().clone()
    for step in range(args.steps):
        batch = inputs[torch.randint(len(inputs), (args.batch_size,))]
        reconstruction, latent = model(batch)
        loss = (reconstruction - batch).pow(2).sum(1).mean() + 0.01 * latent.abs().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step} loss {loss.item():.4f} encoder moved {(model.encoder - start).norm().item():.4f}")


if __name__ == "__main__":
    main()
