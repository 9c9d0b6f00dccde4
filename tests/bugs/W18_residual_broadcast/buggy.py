import torch
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Huberish(nn.Module):
    """Pseudo-Huber loss, optionally weighted."""

    def __init__(self, delta=1.0):
        super().__init__()
        self.delta = delta

    def forward(self, pred, target):
        r = (pred - target) / self.delta
        return (self.delta**2 * (torch.sqrt(1 + r**2) - 1)).mean()


class TabularNet(nn.Module):
    def __init__(self, n_in, hidden=(64, 32), p=0.05):
        super().__init__()
        layers, d = [], n_in
        for h in hidden:
            layers += [nn.Linear(d, h), nn.SiLU(), nn.Dropout(p)]
            d = h
        self.body, self.out = nn.Sequential(*layers), nn.Linear(d, 1)

    def forward(self, x):
        return self.out(self.body(x))


def load(n=1200, seed=0):
    x, y = make_friedman1(n, n_features=8, noise=0.3, random_state=seed)
    y = (y - y.mean()) / y.std()
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    k = int(0.8 * n)
    return TensorDataset(x[:k], y[:k]), TensorDataset(x[k:], y[k:])


def main(epochs=3, bs=48):
    torch.manual_seed(0)
    tr, va = load()
    dl = DataLoader(tr, bs, shuffle=True)
    model, crit = TabularNet(8), Huberish(0.5)
    opt = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=8e-3, total_steps=epochs * len(dl))
    for ep in range(epochs):
        model.train()
        s = 0.0
        for x, y in dl:
            loss = crit(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            s += loss.item()
        model.eval()
        with torch.no_grad():
            v = crit(model(va.tensors[0]), va.tensors[1]).item()
        print(f"epoch {ep} train {s / len(dl):.4f} val {v:.4f}")
    torch.save({"state": model.state_dict()}, "tabular.pt")


if __name__ == "__main__":
    main()
