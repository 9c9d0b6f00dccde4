import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def conv_bn(i, o, s=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = conv_bn(c, c), nn.Sequential(nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, x):
        return torch.relu(x + self.b(self.a(x)))


class Meter:
    def __init__(self):
        self.s = self.n = 0

    def add(self, v, k=1):
        self.s += v * k
        self.n += k

    @property
    def avg(self):
        return self.s / max(self.n, 1)


class Engine:
    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            conv_bn(1, 8), Residual(8), conv_bn(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)
        )
        self.opt = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
        self.sched = torch.optim.lr_scheduler.MultiStepLR(self.opt, [2], gamma=0.1)
        self.crit = nn.CrossEntropyLoss()

    def train_epoch(self, dl):
        self.net.train()
        m = Meter()
        for x, y in dl:
            self.opt.zero_grad()
            loss = self.crit(self.net(x), y)
            loss.backward()
            self.opt.step()
            m.add(loss.item(), len(y))
        return m.avg

    @torch.no_grad()
    def validate(self, dl):
        self.net.eval()
        loss, acc = Meter(), Meter()
        for x, y in dl:
            out = self.net(x)
            loss.add(self.crit(out, y).item(), len(y))
            acc.add((out.argmax(1) == y).float().mean().item(), len(y))
        return loss.avg, acc.avg


def textures(n, seed, gain=1.0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=g)
    x = torch.randn(n, 1, 12, 12, generator=g)
    x[y == 1] = (x[y == 1] + x[y == 1].roll(1, 2)) * 0.7
    x[y == 2] = (x[y == 2] + x[y == 2].roll(1, 3)) * 0.7
    return TensorDataset(x * gain, y)


if __name__ == "__main__":
    e = Engine()
    tr = DataLoader(textures(640, 1), 32, shuffle=True, drop_last=True)
    va = DataLoader(textures(160, 2, 1.3), 80)
    for ep in range(3):
        t = e.train_epoch(tr)
        v, a = e.validate(va)
        e.sched.step()
        print(f"ep {ep} train {t:.4f} val {v:.4f} acc {a:.3f}")
    torch.save(e.net.state_dict(), "net.pt")
