import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Config:
    epochs_adam = 1
    epochs_sgd = 2
    lr_adam = 2e-3
    lr_sgd = 0.1
    batch = 70
    gamma = 0.95


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 10, 3),
            nn.ReLU(),
            nn.Conv2d(10, 10, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(160, 10),
        )

    def forward(self, x):
        return self.net(x)


class Runner:
    """Adam first, then SGD (as the SWATS paper proposes)."""

    def __init__(self, cfg):
        torch.manual_seed(7)
        self.cfg = cfg
        self.model = Model()
        x, y = load_digits(return_X_y=True)
        self.x, self.y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=cfg.lr_adam)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, cfg.gamma)

    def switch(self):
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.cfg.lr_sgd, momentum=0.9)

    def step(self, idx):
        loss = F.cross_entropy(self.model(self.x[idx]), self.y[idx])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss.item()

    def fit(self):
        for epoch in range(self.cfg.epochs_adam + self.cfg.epochs_sgd):
            if epoch == self.cfg.epochs_adam:
                self.switch()
            losses = [self.step(i) for i in torch.randperm(1400).split(self.cfg.batch)]
            with torch.no_grad():
                acc = (self.model(self.x[1400:]).argmax(1) == self.y[1400:]).float().mean().item()
            print(f"[{epoch}] {type(self.optimizer).__name__} loss {sum(losses) / len(losses):.4f} acc {acc:.4f}")


if __name__ == "__main__":
    Runner(Config).fit()
