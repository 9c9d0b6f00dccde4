"""A GPT with AdamW, clipping and a schedule on generated text: ``BENCH_GPT=small`` (1 M parameters, about 100 ms a
step) or ``medium`` (11 M parameters, 300 to 500 ms)."""

import os

import torch
import torch.nn.functional as F
from timed import steps, timed
from torch import nn

SIZES = {"small": (4, 128, 4, 20, 64), "medium": (6, 384, 6, 4, 128), "wide": (2, 1536, 16, 2, 32)}
"""Layers, width, heads, batch, length. The wide one is for measurements of memory."""
LAYERS, WIDTH, HEADS, BATCH, LENGTH = SIZES[os.environ.get("BENCH_GPT", "small")]
VOCABULARY = 512


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.qkv(x).view(len(x), LENGTH, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(mixed.transpose(1, 2).reshape(len(x), LENGTH, WIDTH))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH), nn.Dropout(0.1))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(LENGTH))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    text = torch.randint(0, VOCABULARY, (steps() * BATCH, LENGTH + 1))
    text[:, 1::2] = text[:, :-1:2]  # every second token repeats the one before it
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(text), batch_size=BATCH, shuffle=True)

    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps())
    model.train()
    for (ids,) in timed(loader):
        logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()
