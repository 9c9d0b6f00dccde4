"""The same small training in four ways: one model, one optimizer, one schedule, clipping, evaluation after each epoch.

Usage: ``one_run.py plain|lightning|accelerate|transformers SEED``.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

EPOCHS, BATCH, STEPS = 2, 16, 24


class Rows(Dataset[dict[str, Tensor]]):
    """Points, and whether they lie outside of a circle."""

    def __init__(self, count: int, seed: int) -> None:
        self.x = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
        self.labels = (self.x.square().sum(1) > 8).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {"x": self.x[place], "labels": self.labels[place]}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 2))

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        scores = self.layers(x)
        return {"loss": F.cross_entropy(scores, labels), "logits": scores}


def optimizer_of(model: nn.Module) -> tuple[AdamW, LambdaLR]:
    optimizer = AdamW(model.parameters(), lr=3e-3)
    return optimizer, LambdaLR(optimizer, lambda step: 1 - step / STEPS)


def loader(rows: Rows, *, shuffle: bool) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(rows, batch_size=BATCH, shuffle=shuffle)


def plain(model: Net, training: Rows, validation: Rows) -> None:
    optimizer, schedule = optimizer_of(model)
    _loop(model, optimizer, schedule, loader(training, shuffle=True), loader(validation, shuffle=False), None)


def accelerate(model: Net, training: Rows, validation: Rows) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    optimizer, schedule = optimizer_of(model)
    prepared = accelerator.prepare(
        model, optimizer, schedule, loader(training, shuffle=True), loader(validation, shuffle=False)
    )
    _loop(*prepared, accelerator)
    accelerator.end_training()


def _loop(model: Any, optimizer: Any, schedule: Any, training: Any, validation: Any, accelerator: Any) -> None:
    for _ in range(EPOCHS):
        model.train()
        for batch in training:
            optimizer.zero_grad()
            loss = model(**batch)["loss"]
            if accelerator is None:
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            else:
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            for batch in validation:
                model(**batch)


def lightning(model: Net, training: Rows, validation: Rows) -> None:
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            return self.net(**batch)["loss"]  # type: ignore[no-any-return]  # a module's call has no type

        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            self.net(**batch)

        def configure_optimizers(self) -> Any:
            optimizer, schedule = optimizer_of(self)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    trainer = L.Trainer(
        accelerator="cpu", max_epochs=EPOCHS, gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), loader(training, shuffle=True), loader(validation, shuffle=False))


def transformers(model: Net, training: Rows, validation: Rows) -> None:
    from transformers import Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output, num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH, max_grad_norm=1.0, use_cpu=True,
            eval_strategy="epoch", save_strategy="no", report_to="none", disable_tqdm=True, seed=int(sys.argv[2]),
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, train_dataset=training, eval_dataset=validation, optimizers=optimizer_of(model)
        )
        trainer.train()


def main() -> None:
    way, seed = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    {"plain": plain, "accelerate": accelerate, "lightning": lightning, "transformers": transformers}[way](
        Net(), Rows(BATCH * STEPS // EPOCHS, seed), Rows(64, seed + 100)
    )


if __name__ == "__main__":
    main()
