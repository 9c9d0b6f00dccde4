import lightning as L
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

TASKS = {"digit": 10, "parity": 2, "large": 2}


class MultiTaskDigits(Dataset):
    def __init__(self, lo, hi):
        d = load_digits()
        self.x, self.y = d.images[lo:hi], d.target[lo:hi]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        y = int(self.y[i])
        return {
            "image": torch.tensor(self.x[i] / 16, dtype=torch.float32)[None],
            "digit": y,
            "parity": y % 2,
            "large": int(y > 4),
        }


class MultiTask(L.LightningModule):
    def __init__(self, tasks, lr=5e-2):
        super().__init__()
        self.lr = lr
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 64), nn.ReLU()
        )
        self.heads = {name: nn.Linear(64, n) for name, n in tasks.items()}

    def forward(self, x):
        h = self.trunk(x)
        return {name: head(h) for name, head in self.heads.items()}

    def shared(self, batch):
        out = self(batch["image"])
        return {k: F.cross_entropy(v, batch[k]) for k, v in out.items()}

    def training_step(self, batch, batch_idx):
        losses = self.shared(batch)
        total = sum(losses.values())
        self.log("train", total)
        return total

    def validation_step(self, batch, batch_idx):
        for k, v in self.shared(batch).items():
            self.log("val_" + k, v)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


L.seed_everything(2)
trainer = L.Trainer(
    max_steps=50,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    gradient_clip_val=5.0,
)
model = MultiTask(TASKS)
trainer.fit(model, DataLoader(MultiTaskDigits(0, 1500), 64, shuffle=True), DataLoader(MultiTaskDigits(1500, 1797), 128))
print({k: round(float(v), 3) for k, v in trainer.callback_metrics.items()})
