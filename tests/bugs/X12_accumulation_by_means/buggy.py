"""Train a small language model on sentences with gradient accumulation; padding and prompts do not count."""

from __future__ import annotations

import argparse
import codecs
import this

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD = 0


class LanguageModel(nn.Module):
    def __init__(self, vocabulary=128, width=48):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0])


def collate(rows):
    tokens = pad_sequence(rows, batch_first=True, padding_value=PAD)
    labels = tokens.masked_fill(tokens == PAD, -100)
    labels[:, :3] = -100
    return tokens[:, :-1], labels[:, 1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=3)
    parser.add_argument("--accumulation", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    lines = [line for line in codecs.decode(this.s, "rot13").splitlines() if line]
    rows = [torch.tensor([ord(c) for c in line]) for line in lines * 2]
    loader = DataLoader(rows, batch_size=args.batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    model = LanguageModel()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        pending, total = [], 0.0
        for batch in loader:
            pending.append(batch)
            if len(pending) < args.accumulation:
                continue
            optimizer.zero_grad()
            for tokens, labels in pending:
                logits = model(tokens)
                loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten()) / len(pending)
                loss.backward()
            optimizer.step()
            pending, total = [], loss.item()
        print(f"epoch {epoch} loss {total:.4f}")


if __name__ == "__main__":
    main()
