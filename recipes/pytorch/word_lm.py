"""A word-level transformer language model with tied embeddings: clipping, and a plateau schedule per epoch."""

from __future__ import annotations

import argparse
import math

import torch
from data import topics_words
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import ReduceLROnPlateau


class TransformerModel(nn.Module):
    def __init__(self, vocabulary: int, width: int = 48, heads: int = 2, layers: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.zeros(512, width))
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.decoder = nn.Linear(width, vocabulary)
        self.decoder.weight = self.embedding.weight
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        x = self.embedding(tokens) * math.sqrt(self.width) + self.position[:length]
        x = self.encoder(self.dropout(x), mask=mask, is_causal=True)
        return self.decoder(x)


def batchify(tokens: Tensor, rows: int) -> Tensor:
    columns = len(tokens) // rows
    return tokens[: rows * columns].view(rows, columns)


def evaluate(model: nn.Module, source: Tensor, length: int, criterion: nn.Module) -> float:
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, source.shape[1] - length - 1, length):
            output = model(source[:, start : start + length])
            total += criterion(output.flatten(0, 1), source[:, start + 1 : start + 1 + length].flatten()).item()
            count += 1
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1111)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.5)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--clip", type=float, default=0.25)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    vocabulary = 1000
    tokens = topics_words(vocabulary)
    train_data = batchify(tokens[:13000], args.batch_size)
    val_data = batchify(tokens[-2000:], args.batch_size)
    model = TransformerModel(vocabulary)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.25, patience=0)

    for epoch in range(args.epochs):
        model.train()
        for start in range(0, train_data.shape[1] - args.length - 1, args.length):
            data = train_data[:, start : start + args.length]
            targets = train_data[:, start + 1 : start + 1 + args.length]
            optimizer.zero_grad()
            output = model(data)
            loss = criterion(output.flatten(0, 1), targets.flatten())
            loss.backward()
            clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
        val_loss = evaluate(model, val_data, args.length, criterion)
        scheduler.step(val_loss)
        print(f"epoch {epoch} loss {loss.item():.3f} validation {val_loss:.3f} perplexity {math.exp(val_loss):.1f}")


if __name__ == "__main__":
    main()
