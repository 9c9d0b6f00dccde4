import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, IterableDataset


class ShardStream(IterableDataset):
    """Reads 'shards' one after another, as a web dataset does."""

    def __init__(self, lo, hi, shards=8):
        d = load_digits()
        self.x = torch.tensor(d.data[lo:hi] / 16, dtype=torch.float32).chunk(shards)
        self.y = torch.tensor(d.target[lo:hi]).chunk(shards)
        self.epoch = 0

    def __iter__(self):
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(self.epoch)).tolist()
        for i in order:
            yield from zip(self.x[i], self.y[i], strict=False)


def main():
    torch.manual_seed(0)
    stream = ShardStream(0, 1280)
    loader = DataLoader(stream, batch_size=64, num_workers=2)
    model = nn.Sequential(nn.Linear(64, 100), nn.LayerNorm(100), nn.SiLU(), nn.Linear(100, 10))
    opt = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    xv, yv = (torch.tensor(a) for a in (load_digits().data[1280:] / 16, load_digits().target[1280:]))
    for epoch in range(3):
        stream.epoch = epoch
        n = 0
        for x, y in loader:
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            n += 1
        with torch.no_grad():
            acc = (model(xv.float()).argmax(1) == yv).float().mean().item()
        print(epoch, n, round(loss.item(), 4), round(acc, 4))


if __name__ == "__main__":
    main()
