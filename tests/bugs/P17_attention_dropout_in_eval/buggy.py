"""A byte-level language model on the text of Python's help, validating every ten steps."""

from __future__ import annotations

import argparse
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class LanguageModel(nn.Module):
    def __init__(self, width=48, heads=4, layers=2, length=48, dropout=0.1):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.attention = nn.ModuleList(Attention(width, heads, dropout) for _ in range(layers))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout))
            for _ in range(layers)
        )
        self.head = nn.Linear(width, 256)

    def forward(self, tokens):
        x = self.embed(tokens) + self.position[: tokens.shape[1]]
        for i, (attention, mlp) in enumerate(zip(self.attention, self.mlp, strict=True)):
            x = x + attention(self.norms[2 * i](x))
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.head(x)


@torch.no_grad()
def validate(model, batches):
    model.eval()
    losses = [F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten()).item() for x in batches]
    model.train()
    return sum(losses) / len(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    tokens = torch.tensor(list(text[:200000]))
    rows = tokens[: len(tokens) // 49 * 49].view(-1, 49)
    train_rows, val_rows = rows[:-40], rows[-40:]
    model = LanguageModel()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    model.train()
    for step in range(args.steps):
        x = train_rows[torch.randint(len(train_rows), (args.batch_size,))]
        loss = F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            batches = val_rows.split(20)
            print(
                f"step {step} loss {loss.item():.4f} validation {validate(model, batches):.6f}, "
                f"again {validate(model, batches):.6f}"
            )


if __name__ == "__main__":
    main()
