import os
import subprocess
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class ResBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a, self.b, self.ln = nn.Linear(d, d), nn.Linear(d, d), nn.LayerNorm(d)

    def forward(self, x):
        return x + self.b(F.gelu(self.a(self.ln(x))))


def build():
    return nn.Sequential(nn.Linear(64, 64), ResBlock(64), ResBlock(64), nn.LayerNorm(64), nn.Linear(64, 10))


class Runner:
    def __init__(self):
        self.acc = Accelerator(cpu=True)
        set_seed(42)
        d = load_digits()
        x, y = torch.tensor(d.data / 16, dtype=torch.float32), torch.tensor(d.target)
        self.train = DataLoader(TensorDataset(x[:1500], y[:1500]), batch_size=32, shuffle=True, drop_last=True)
        self.val = DataLoader(TensorDataset(x[1500:], y[1500:]), batch_size=64)
        self.model = build()
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=2e-3)
        self.model, self.opt, self.val = self.acc.prepare(self.model, self.opt, self.val)

    def fit(self, steps=40):
        _it, done, _epoch = None, 0, 0
        while done < steps:
            for x, y in self.train:
                loss = F.cross_entropy(self.model(x), y)
                self.acc.backward(loss)
                self.opt.step()
                self.opt.zero_grad()
                done += 1
                if done % 10 == 0:
                    self.acc.print(done, round(loss.item(), 3))
                if done == steps:
                    break

    def test(self):
        self.model.eval()
        hits = []
        with torch.no_grad():
            for x, y in self.val:
                hits.append(self.acc.gather_for_metrics((self.model(x).argmax(1) == y).float()))
        self.acc.print("acc", torch.cat(hits).mean().item())


if __name__ == "__main__":
    if "RANK" in os.environ:
        r = Runner()
        r.fit()
        r.test()
        r.acc.end_training()
    else:  # two processes of this program
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        sys.exit(subprocess.call([*launcher, __file__]))
