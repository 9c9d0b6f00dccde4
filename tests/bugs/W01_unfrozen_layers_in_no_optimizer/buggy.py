from dataclasses import dataclass, field

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


@dataclass
class Cfg:
    lr: float = 2e-2
    encoder_lr: float = 5e-3
    batch: int = 64
    epochs: int = 3
    unfreeze_at: dict = field(default_factory=lambda: {1: "block2", 2: "block1"})


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block1 = nn.Sequential(nn.Linear(64, 64), nn.GELU())
        self.block2 = nn.Sequential(nn.Linear(64, 48), nn.GELU())
        self.classifier = nn.Linear(48, 10)

    def forward(self, x):
        return self.classifier(self.block2(self.block1(x)))


def freeze(m, flag=True):
    for p in m.parameters():
        p.requires_grad_(not flag)


cfg = Cfg()
torch.manual_seed(1)
X, Y = load_digits(return_X_y=True)
X, Y = torch.tensor(X, dtype=torch.float32) / 16, torch.tensor(Y)
net = Net()
freeze(net.block1)
freeze(net.block2)
optimizer = torch.optim.AdamW(filter(lambda p: p.requires_grad, net.parameters()), lr=cfg.lr)

step = 0
for epoch in range(cfg.epochs):
    if epoch in cfg.unfreeze_at:
        block = getattr(net, cfg.unfreeze_at[epoch])
        freeze(block, False)
        n = sum(p.numel() for p in net.parameters() if p.requires_grad)
        print(f"epoch {epoch}: unfroze {cfg.unfreeze_at[epoch]}, {n} trainable parameters")
    order = torch.randperm(1408)
    running = 0.0
    for idx in order.split(cfg.batch):
        logits = net(X[idx])
        loss = F.cross_entropy(logits, Y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
        step += 1
    with torch.no_grad():
        acc = (net(X[1408:]).argmax(-1) == Y[1408:]).float().mean()
    print(f"epoch {epoch} step {step} loss {running / 22:.4f} val acc {acc:.3f}")
