"""Masked language modelling: sentences end with the end token, but only masked tokens have a label."""

from __future__ import annotations

import argparse
import codecs
import this
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

PAD, END, MASK = 0, 1, 2


class Encoder(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.config = SimpleNamespace(eos_token_id=END, pad_token_id=PAD)
        self.tokens, self.positions = nn.Embedding(128, width), nn.Embedding(80, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 128)

    def forward(self, input_ids, attention_mask, labels):
        x = self.tokens(input_ids) + self.positions(torch.arange(input_ids.shape[1]))
        logits = self.head(self.encoder(x, src_key_padding_mask=attention_mask == 0))
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    lines = [line for line in codecs.decode(this.s, "rot13").splitlines() if line]
    length = max(map(len, lines)) + 1
    rows = torch.tensor([[*map(ord, line), END, *[PAD] * (length - len(line) - 1)] for line in lines])
    model = Encoder()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for step in range(args.steps):
        ids = rows[torch.randint(len(rows), (args.batch_size,))]
        attention_mask = (ids != PAD).long()
        chosen = (torch.rand(ids.shape) < 0.2) & (ids > MASK)
        labels = ids.masked_fill(~chosen, -100)
        inputs = ids.masked_fill(chosen & (torch.rand(ids.shape) < 0.8), MASK)
        loss = model(input_ids=inputs, attention_mask=attention_mask, labels=labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step} loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
