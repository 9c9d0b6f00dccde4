"""A variational autoencoder on handwritten digits: sampling in the forward pass, two loss terms, Adam."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self, latent: int = 8) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.mean = nn.Linear(64, latent)
        self.log_variance = nn.Linear(64, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(x)
        return self.mean(hidden), self.log_variance(hidden)

    def reparametrise(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        std = torch.exp(0.5 * log_variance)
        return mean + std * torch.randn_like(std)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x)
        return self.decode(self.reparametrise(mean, log_variance)), mean, log_variance


def loss_function(reconstruction: Tensor, x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    bce = F.binary_cross_entropy(reconstruction, x.flatten(1), reduction="sum")
    kld = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
    return bce + kld


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training, testing = split_digits()
    train_loader = DataLoader(TensorDataset(training[0]), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(testing[0]), batch_size=180)
    model = VAE()
    optimizer = optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(args.epochs):
        model.train()
        train_loss = 0.0
        for (images,) in train_loader:
            optimizer.zero_grad()
            reconstruction, mean, log_variance = model(images)
            loss = loss_function(reconstruction, images, mean, log_variance)
            loss.backward()
            train_loss += loss.item()
            optimizer.step()

        model.eval()
        test_loss = 0.0
        with torch.no_grad():
            for (images,) in test_loader:
                reconstruction, mean, log_variance = model(images)
                test_loss += loss_function(reconstruction, images, mean, log_variance).item()
            sample = model.decode(torch.randn(16, model.latent))
        print(
            f"epoch {epoch} train {train_loss / len(training[0]):.3f} test {test_loss / len(testing[0]):.3f} "
            f"sample mean {sample.mean().item():.3f}"
        )


if __name__ == "__main__":
    main()
