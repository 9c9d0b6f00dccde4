"""A VAE in two phases: first all of it, then the encoder rests and the decoder is refined with a new optimizer."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class VAE(nn.Module):
    def __init__(self, latent=6):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, 48), nn.ReLU(), nn.Linear(48, 64))

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.decoder(z), mean, log_variance


def fit(model, optimizer, rows, steps, batch_size, with_kl):
    for step in range(steps):
        x = rows[torch.randint(len(rows), (batch_size,))]
        reconstruction, mean, log_variance = model(x)
        loss = F.binary_cross_entropy_with_logits(reconstruction, x, reduction="sum") / len(x)
        if with_kl:
            loss = loss - 0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum() / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step} loss {loss.item():.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    rows = images.flatten(1)
    model = VAE()
    optimizer_class = getattr(torch.optim, args.optimizer)
    model.train()
    fit(model, optimizer_class(model.parameters(), lr=args.lr), rows, args.steps // 2, args.batch_size, with_kl=True)
    model.encoder.requires_grad_(False)
    refining = optimizer_class(model.decoder.parameters(), lr=args.lr)
    fit(model, refining, rows, args.steps // 2, args.batch_size, with_kl=False)


if __name__ == "__main__":
    main()
