"""Endless data: batches are drawn from a text, so that steps are counted, not epochs. Continued from a checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import lightning as L
import torch
import torch.nn.functional as F
from inputs import options, quiet, topics_bytes
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset


class Excerpts(IterableDataset[Tensor]):
    """Pieces of the text, each from a random place, without end."""

    def __init__(self, tokens: Tensor, length: int) -> None:
        self.tokens, self.length = tokens, length

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            start = int(torch.randint(len(self.tokens) - self.length, ()))
            yield self.tokens[start : start + self.length]


class Writer(L.LightningModule):
    """Predicts the next byte from those before it, by causal convolutions."""

    def __init__(self, lr: float, steps: int, warm_up: int, width: int = 48) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.embedding = nn.Embedding(256, width)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=2**depth) for depth in range(3))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).transpose(1, 2)
        for layer in self.layers:
            past = 2 * layer.dilation[0]
            x = x + F.gelu(layer(F.pad(x, (past, 0))))
        return self.head(self.norm(x.transpose(1, 2)))

    def training_step(self, tokens: Tensor, batch_idx: int) -> Tensor:
        loss = self._loss(tokens)
        self.log("loss", loss)
        return loss

    def validation_step(self, tokens: Tensor, batch_idx: int) -> None:
        self.log("val_loss", self._loss(tokens))

    def _loss(self, tokens: Tensor) -> Tensor:
        return F.cross_entropy(self(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=self.hparams.warm_up)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.hparams.steps - self.hparams.warm_up)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, decay], [self.hparams.warm_up])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main() -> None:
    parser = options(__doc__, batch_size=16)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--warm-up", type=int, default=8)
    parser.add_argument("--accumulation", type=int, default=1)
    args = parser.parse_args()
    L.seed_everything(args.seed)
    tokens = topics_bytes()
    training = DataLoader(Excerpts(tokens[:-4160], 65), batch_size=args.batch_size)
    validation = DataLoader(tokens[-4160:].unfold(0, 65, 65), batch_size=32)
    with tempfile.TemporaryDirectory() as output:
        for until in (args.steps // 2, args.steps):  # the second time as if the program had been started again
            saving = ModelCheckpoint(dirpath=output, every_n_train_steps=8, save_last=True)
            trainer = L.Trainer(
                **quiet(output), max_epochs=-1, max_steps=until, val_check_interval=12, check_val_every_n_epoch=None,
                accumulate_grad_batches=args.accumulation, gradient_clip_val=1.0, logger=False, callbacks=[saving],
            )  # fmt: skip
            resume = f"{output}/last.ckpt" if until == args.steps else None
            trainer.fit(Writer(args.lr, args.steps, args.warm_up), training, validation, ckpt_path=resume)
        print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
