"""Two processes: DistributedDataParallel over gloo, accumulation, checkpoints by rank 0, resumed by both.

Lightning starts the second process by itself.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import lightning as L
import torch
import torch.distributed as dist
import torch.nn.functional as F
from inputs import loaders, options, quiet
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn


class Digits(L.LightningModule):
    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("accuracy", (self.net(images).argmax(1) == labels).float().mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def main() -> None:
    parser = options(__doc__, batch_size=24, lr=0.03)
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir()), help="where the checkpoints go")
    args = parser.parse_args()
    L.seed_everything(args.seed)
    training, validation = loaders(args.batch_size)
    for until in (1, args.epochs):
        saved = ModelCheckpoint(dirpath=args.output / f"ddp-{args.seed}", save_last=True, enable_version_counter=False)
        trainer = L.Trainer(
            **quiet(str(args.output)), devices=2, strategy="ddp", max_epochs=until, logger=False, callbacks=[saved],
            accumulate_grad_batches=args.accumulation,
        )  # fmt: skip
        resume = saved.dirpath + "/last.ckpt" if until > 1 else None
        trainer.fit(Digits(args.lr), training, validation, ckpt_path=resume)
    if trainer.is_global_zero:
        print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
        for checkpoint in Path(saved.dirpath).glob("*.ckpt"):
            checkpoint.unlink()
    # Gloo's threads must be idle when the group ends: they do not survive the interpreter.
    dist.barrier()
    time.sleep(0.2)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
