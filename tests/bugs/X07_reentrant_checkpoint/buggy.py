"""Fine-tune on the text of Python's help: frozen embeddings, a checkpointed block, a classifier of the next byte."""

from __future__ import annotations

import argparse
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        return x + self.mlp(self.norm(x))


class Model(nn.Module):
    def __init__(self, width=32, context=8):
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.block = Block(width * context)
        self.head = nn.Linear(width * context, 256)
        self.embedding.requires_grad_(False)

    def forward(self, tokens):
        x = self.embedding(tokens).flatten(1)
        x = checkpoint(self.block, x, use_reentrant=True)
        return self.head(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    tokens = torch.tensor(list(text[:100000]))
    model = Model()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = getattr(torch.optim, args.optimizer)(trainable, lr=args.lr)
    start = model.block.mlp[0].weight.detach().clone()
    model.train()
    for step in range(args.steps):
        begin = torch.randint(len(tokens) - 9, (args.batch_size,))
        windows = tokens[begin[:, None] + torch.arange(9)]
        loss = F.cross_entropy(model(windows[:, :8]), windows[:, 8])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            moved = (model.block.mlp[0].weight - start).norm().item()
            print(f"step {step} loss {loss.item():.4f} the block moved {moved:.4f}")


if __name__ == "__main__":
    main()
