"""Fine-tuning: a pretrained backbone is frozen, but for its BatchNorm, and thawed after an epoch. Early stopping.

With the import name ``pytorch_lightning``.
"""

from __future__ import annotations

import tempfile

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from inputs import loaders, options, quiet
from pytorch_lightning.callbacks import BackboneFinetuning, EarlyStopping
from torch import Tensor, nn


class Classifier(pl.LightningModule):
    def __init__(self, lr: float, classes: int = 10) -> None:
        super().__init__()
        self.lr = lr
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(512, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels % self.head.out_features)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        images, labels = batch
        scores = self(images)
        self.log("val_loss", F.cross_entropy(scores, labels))
        self.log("accuracy", (scores.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trainable, lr=self.lr, momentum=0.9)


def main() -> None:
    args = options(__doc__, lr=0.02, epochs=3).parse_args()
    pl.seed_everything(args.seed)
    training, validation = loaders(args.batch_size)
    with tempfile.TemporaryDirectory() as output:
        quietly = {**quiet(output), "logger": False, "enable_checkpointing": False}
        # Even or odd: stands for the large data set that a backbone usually comes from.
        pretrained = Classifier(args.lr, classes=2)
        pl.Trainer(**quietly, max_epochs=1).fit(pretrained, loaders(args.batch_size, images=500)[0])

        model = Classifier(args.lr)
        model.backbone.load_state_dict(pretrained.backbone.state_dict())
        thaw = BackboneFinetuning(unfreeze_backbone_at_epoch=1, backbone_initial_ratio_lr=0.1, verbose=False)
        trainer = pl.Trainer(
            **quietly, max_epochs=args.epochs, callbacks=[thaw, EarlyStopping("val_loss", patience=1)]
        )  # fmt: skip
        trainer.fit(model, training, validation)
        print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
