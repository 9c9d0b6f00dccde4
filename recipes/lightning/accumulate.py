"""Accumulation, clipping by norm, a schedule that is advanced per step, validation in the middle of an epoch."""

from __future__ import annotations

import tempfile

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from inputs import loaders, options, quiet
from torch import Tensor, nn


class Reader(pl.LightningModule):
    """Reads a digit row by row."""

    def __init__(self, lr: float, schedule: str) -> None:
        super().__init__()
        self.lr, self.schedule = lr, schedule
        self.rows = nn.GRU(8, 48, num_layers=2, batch_first=True, dropout=0.1)
        self.norm = nn.LayerNorm(48)
        self.head = nn.Linear(48, 10)
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.rows(images.squeeze(1))
        return self.head(self.norm(states[:, -1]))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        images, labels = batch
        loss = self.criterion(self(images), labels)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return {"loss": loss}

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("accuracy", (self(images).argmax(1) == labels).float().mean(), prog_bar=True)
        self.log("val_loss", F.cross_entropy(self(images), labels))

    def configure_optimizers(self) -> dict[str, object]:
        decayed = [parameter for parameter in self.parameters() if parameter.dim() > 1]
        others = [parameter for parameter in self.parameters() if parameter.dim() <= 1]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=self.lr
        )
        total = int(self.trainer.estimated_stepping_batches)
        if self.schedule == "one-cycle":
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=total)
        else:
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 5, 1 - step / total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main() -> None:
    parser = options(__doc__, batch_size=16, lr=1e-2)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--schedule", choices=("one-cycle", "warm-up"), default="one-cycle")
    parser.add_argument("--steps", type=int, default=-1, help="end after so many steps, whatever the epoch")
    args = parser.parse_args()
    pl.seed_everything(args.seed)
    training, validation = loaders(args.batch_size)
    with tempfile.TemporaryDirectory() as output:
        trainer = pl.Trainer(
            **quiet(output),
            max_epochs=args.epochs,
            max_steps=args.steps,
            accumulate_grad_batches=args.accumulation,
            gradient_clip_val=1.0,
            precision=args.precision,
            val_check_interval=0.5,
            logger=False,
            enable_checkpointing=False,
        )
        trainer.fit(Reader(args.lr, args.schedule), training, validation)
        print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
