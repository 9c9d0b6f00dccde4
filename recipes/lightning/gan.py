"""Manual optimisation: a small DCGAN with two optimizers, each of which steps once per batch."""

from __future__ import annotations

import tempfile

import lightning as L
import torch
from inputs import digits, options, quiet
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Gan(L.LightningModule):
    def __init__(self, lr: float, latent: int = 16) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.lr, self.latent = lr, latent
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(latent, 32, 4, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
            nn.Conv2d(16, 1, 4, 1, 0, bias=False), nn.Flatten(0),
        )  # fmt: skip
        self.criterion = nn.BCEWithLogitsLoss()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        (real,) = batch
        optimizer_d, optimizer_g = self.optimizers()
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))

        self.toggle_optimizer(optimizer_d)
        fake = self.generator(torch.randn(len(real), self.latent, 1, 1))
        loss_real = self.criterion(self.discriminator(real), ones)
        loss_fake = self.criterion(self.discriminator(fake.detach()), zeros)
        optimizer_d.zero_grad()
        self.manual_backward(loss_real + loss_fake)
        optimizer_d.step()
        self.untoggle_optimizer(optimizer_d)

        self.toggle_optimizer(optimizer_g)
        fake = self.generator(torch.randn(len(real), self.latent, 1, 1))
        loss_g = self.criterion(self.discriminator(fake), ones)
        optimizer_g.zero_grad()
        self.manual_backward(loss_g)
        optimizer_g.step()
        self.untoggle_optimizer(optimizer_g)

        self.log_dict({"loss_d": loss_real + loss_fake, "loss_g": loss_g}, prog_bar=True)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(net.parameters(), lr=self.lr, betas=(0.5, 0.999))
            for net in (self.discriminator, self.generator)
        ]


def main() -> None:
    args = options(__doc__, batch_size=64, lr=2e-3).parse_args()
    L.seed_everything(args.seed)
    images, _ = digits()
    training = DataLoader(TensorDataset(images * 2 - 1), batch_size=args.batch_size, shuffle=True)
    with tempfile.TemporaryDirectory() as output:
        trainer = L.Trainer(**quiet(output), max_epochs=args.epochs, logger=False)
        trainer.fit(Gan(args.lr), training)
        print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
