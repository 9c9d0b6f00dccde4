"""Classify digits as sequences of eight rows with self-attention, evaluating every 15 steps."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class SelfAttention(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.dropout_p = dropout
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if not self.training:
            self.dropout_p = 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout_p)
        return y.transpose(1, 2).flatten(2)


class RowTransformer(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(8, width))
        self.norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads=4, dropout=0.3)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        x = self.embed(images.squeeze(1)) + self.position
        x = x + self.attention(self.norm(x))
        return self.head(x.mean(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    model = RowTransformer()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for step in range(args.steps):
        model.train()
        index = torch.randint(1400, (args.batch_size,))
        loss = F.cross_entropy(model(images[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 15 == 14:
            model.eval()
            with torch.no_grad():
                accuracy = (model(images[1400:]).argmax(1) == labels[1400:]).float().mean().item()
            print(f"step {step} loss {loss.item():.4f} accuracy {accuracy:.3f} dropout {model.attention.dropout_p}")


if __name__ == "__main__":
    main()
