"""A small DCGAN on handwritten digits: two models, two optimizers, two updates per batch, spectral norms."""

from __future__ import annotations

import argparse

import torch
from data import digits
from torch import nn, optim
from torch.nn.utils import spectral_norm
from torch.utils.data import DataLoader, TensorDataset


def init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def make_generator(latent: int) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(latent, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def make_discriminator() -> nn.Module:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(1, 16, 4, 2, 1, bias=False)), nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(16, 1, 4, 1, 0, bias=False)), nn.Flatten(0),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=999)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    latent = 16
    images, _ = digits()
    loader = DataLoader(TensorDataset(images * 2 - 1), batch_size=args.batch_size, shuffle=True)
    generator, discriminator = make_generator(latent), make_discriminator()
    generator.apply(init_weights)
    discriminator.apply(init_weights)
    criterion = nn.BCEWithLogitsLoss()
    optimizer_d = optim.Adam(discriminator.parameters(), lr=args.lr, betas=(0.5, 0.999))
    optimizer_g = optim.Adam(generator.parameters(), lr=args.lr, betas=(0.5, 0.999))
    fixed_noise = torch.randn(16, latent, 1, 1)

    for epoch in range(args.epochs):
        for (real,) in loader:
            ones, zeros = torch.ones(len(real)), torch.zeros(len(real))

            discriminator.zero_grad()
            loss_real = criterion(discriminator(real), ones)
            loss_real.backward()
            fake = generator(torch.randn(len(real), latent, 1, 1))
            loss_fake = criterion(discriminator(fake.detach()), zeros)
            loss_fake.backward()
            optimizer_d.step()

            generator.zero_grad()
            loss_g = criterion(discriminator(fake), ones)
            loss_g.backward()
            optimizer_g.step()

        discriminator.eval()
        with torch.no_grad():
            sample = generator(fixed_noise)
            believed = torch.sigmoid(discriminator(sample)).mean().item()
        discriminator.train()
        print(
            f"epoch {epoch} loss_d {(loss_real + loss_fake).item():.4f} loss_g {loss_g.item():.4f} "
            f"sample mean {sample.mean().item():.3f} believed {believed:.3f}"
        )


if __name__ == "__main__":
    main()
