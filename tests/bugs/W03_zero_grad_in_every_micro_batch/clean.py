import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Additions(Dataset):
    """Two-digit additions as a token sequence, the answer's digits as targets."""

    def __init__(self, n, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.a, self.b = torch.randint(0, 50, (n,), generator=g), torch.randint(0, 50, (n,), generator=g)

    def __len__(self):
        return len(self.a)

    def __getitem__(self, i):
        a, b = int(self.a[i]), int(self.b[i])
        c = a + b
        return torch.tensor([a // 10, a % 10, 10, b // 10, b % 10]), torch.tensor([c // 10, c % 10])


class TinyTransformer(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.emb = nn.Embedding(11, d)
        self.pos = nn.Parameter(torch.randn(5, d) * 0.1)
        self.enc = nn.TransformerEncoderLayer(d, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.out = nn.Linear(5 * d, 20)

    def forward(self, x):
        h = self.enc(self.emb(x) + self.pos)
        return self.out(h.flatten(1)).view(-1, 2, 10)


def main(argv=None):
    ap = argparse.ArgumentParser()
    ap.add_argument("--accum-iter", type=int, default=4)
    ap.add_argument("--batch-size", type=int, default=24)
    ap.add_argument("--epochs", type=int, default=2)
    args = ap.parse_args(argv)
    torch.manual_seed(0)
    loader = DataLoader(Additions(1920), args.batch_size, shuffle=True)
    model = TinyTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    updates = 0
    for epoch in range(args.epochs):
        running = 0.0
        for it, (x, y) in enumerate(loader):
            if it % args.accum_iter == 0:
                optimizer.zero_grad()
            loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
            running += loss.item()
            (loss / args.accum_iter).backward()
            if (it + 1) % args.accum_iter == 0:
                optimizer.step()
                updates += 1
        print(f"epoch {epoch} updates {updates} loss {running / len(loader):.4f}")


if __name__ == "__main__":
    main()
