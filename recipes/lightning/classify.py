"""Automatic optimisation: sanity validation, the best and the last checkpoint, resuming, a test with the best one."""

from __future__ import annotations

import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from inputs import loaders, options, quiet
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=30 * lr, momentum=0.9),
}


class Digits(L.LightningModule):
    def __init__(self, lr: float, optimizer: str, epochs: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 10),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._measure(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self._measure(batch, "test")

    def _measure(self, batch: list[Tensor], stage: str) -> None:
        images, labels = batch
        scores = self(images)
        self.log(f"{stage}_loss", F.cross_entropy(scores, labels), prog_bar=True)
        self.log(f"{stage}_accuracy", (scores.argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = OPTIMIZERS[self.hparams.optimizer](self.parameters(), lr=self.hparams.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def main() -> None:
    parser = options(__doc__, epochs=4)
    parser.add_argument("--optimizer", choices=sorted(OPTIMIZERS), default="adam")
    args = parser.parse_args()
    L.seed_everything(args.seed)
    training, validation = loaders(args.batch_size)
    with tempfile.TemporaryDirectory() as output:
        for until in (args.epochs // 2, args.epochs):  # the second time as if the program had been started again
            best = ModelCheckpoint(monitor="val_loss", save_last=True, filename="best", dirpath=output)
            trainer = L.Trainer(
                **quiet(output), max_epochs=until, log_every_n_steps=10, logger=CSVLogger(output),
                callbacks=[best, LearningRateMonitor()],
            )  # fmt: skip
            model = Digits(args.lr, args.optimizer, args.epochs)
            resume = f"{output}/last.ckpt" if until == args.epochs else None
            trainer.fit(model, training, validation, ckpt_path=resume)
        trainer.test(model, validation, ckpt_path="best")


if __name__ == "__main__":
    main()
