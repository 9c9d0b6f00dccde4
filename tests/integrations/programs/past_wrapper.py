"""Two processes whose forward passes go past DistributedDataParallel from the fourth step on.

Usage: ``past_wrapper.py accelerate`` (under torchrun) or ``past_wrapper.py lightning``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

FROM_STEP = 3


def batches() -> DataLoader[Any]:
    points = torch.randn(160, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(points, (points.sum(1) > 0).long()), batch_size=8, shuffle=True)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


def accelerate() -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = net()
    model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), batches())
    for step, (points, labels) in enumerate(loader):
        forward = model if step < FROM_STEP else accelerator.unwrap_model(model)
        optimizer.zero_grad()
        accelerator.backward(F.cross_entropy(forward(points), labels))
        optimizer.step()


def lightning() -> None:
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def on_train_batch_start(self, batch: list[Tensor], batch_idx: int) -> None:
            if batch_idx == FROM_STEP:
                self.trainer.strategy.model = self  # "unwrapped, to save memory"

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with tempfile.TemporaryDirectory() as output:
        trainer = L.Trainer(
            accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=output,
        )  # fmt: skip
        trainer.fit(Module(), batches())


def main() -> None:
    torch.set_num_threads(1)
    {"accelerate": accelerate, "lightning": lightning}[sys.argv[1]]()
    # Gloo's threads must be idle when the group ends: they do not survive the interpreter.
    dist.barrier()
    time.sleep(0.2)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
