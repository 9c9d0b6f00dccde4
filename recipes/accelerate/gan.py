"""Two models and two optimizers prepared together, one update of each per batch."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from inputs import digits, options
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_generator(latent: int) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(latent, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def make_discriminator() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 1, 4, 1, 0, bias=False), nn.Flatten(0),
    )  # fmt: skip


def main() -> None:
    args = options(__doc__, batch_size=64, lr=2e-3).parse_args()
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)
    latent = 16
    images, _ = digits()
    batches = DataLoader(TensorDataset(images * 2 - 1), batch_size=args.batch_size, shuffle=True)
    generator, discriminator = make_generator(latent), make_discriminator()
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=args.lr, betas=(0.5, 0.999))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=args.lr, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()
    generator, discriminator, optimizer_g, optimizer_d, batches = accelerator.prepare(
        generator, discriminator, optimizer_g, optimizer_d, batches
    )

    for epoch in range(args.epochs):
        for (real,) in batches:
            ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
            fake = generator(torch.randn(len(real), latent, 1, 1))

            optimizer_d.zero_grad()
            loss_d = criterion(discriminator(real), ones) + criterion(discriminator(fake.detach()), zeros)
            accelerator.backward(loss_d)
            optimizer_d.step()

            optimizer_g.zero_grad()
            loss_g = criterion(discriminator(fake), ones)
            accelerator.backward(loss_g)
            optimizer_g.step()
        accelerator.print(f"epoch {epoch} loss_d {loss_d.item():.4f} loss_g {loss_g.item():.4f}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
