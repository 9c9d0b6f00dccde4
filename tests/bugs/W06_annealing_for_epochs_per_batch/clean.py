import argparse

import torch
import torch.nn as nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--batch-size", type=int, default=64)
    p.add_argument("--lr", type=float, default=0.02)
    p.add_argument("--hidden", type=int, default=64)
    return p.parse_args()


class MLPMixerBlock(nn.Module):
    def __init__(self, tokens, dim):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.tok = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.ch = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.tok(self.n1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.ch(self.n2(x))


class Mixer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.embed = nn.Linear(5, dim)
        self.blocks = nn.Sequential(MLPMixerBlock(8, dim), MLPMixerBlock(8, dim))
        self.out = nn.Linear(dim, 1)

    def forward(self, x):
        return self.out(self.blocks(self.embed(x)).mean(1)).squeeze(-1)


def main():
    args = get_args()
    torch.manual_seed(0)
    x = torch.randn(704, 8, 5)
    y = (x[:, :4].mean(1) - x[:, 4:].mean(1)).sum(-1) + 0.1 * torch.randn(704)
    train = DataLoader(TensorDataset(x[:512], y[:512]), args.batch_size, shuffle=True)
    val = DataLoader(TensorDataset(x[512:], y[512:]), 192)
    model = Mixer(args.hidden)
    opt = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scheduler = CosineAnnealingLR(opt, T_max=args.epochs * len(train))
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for xb, yb in train:
            opt.zero_grad()
            loss = nn.functional.mse_loss(model(xb), yb)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            opt.step()
            scheduler.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            v = sum(nn.functional.mse_loss(model(a), b).item() for a, b in val) / len(val)
        print(f"epoch {epoch} train {total / len(train):.4f} val {v:.4f} lr {opt.param_groups[0]['lr']:.5f}")


if __name__ == "__main__":
    main()
