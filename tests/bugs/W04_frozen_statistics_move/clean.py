import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(4)


class Backbone(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, x):
        return self.features(x)


class Detector(nn.Module):
    def __init__(self, backbone, n_out, freeze_backbone=False):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, n_out))
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            for p in self.backbone.parameters():
                p.requires_grad = False
            self.backbone.eval()

    def forward(self, x):
        return self.head(self.backbone(x))

    def train(self, mode=True):
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self


def domain(n, shift, classes):
    y = torch.randint(classes, (n,))
    base = torch.randn(classes, 3, 1, 1) * 1.2
    x = base[y] + torch.randn(n, 3, 8, 8) + shift
    return DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)


def fit(model, loader, epochs, lr, tag):
    opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    for ep in range(epochs):
        model.train()
        total = 0
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            acc = torch.cat([model(x).argmax(1) == y for x, y in loader]).float().mean()
        print(f"{tag} epoch {ep} loss {total / len(loader):.3f} acc {acc:.3f}")


backbone = Backbone()
fit(Detector(backbone, 4), domain(800, 0.0, 4), 1, 5e-3, "pretrain")
model = Detector(backbone, 3, freeze_backbone=True)
fit(model, domain(640, 0.8, 3), 2, 5e-3, "finetune")
