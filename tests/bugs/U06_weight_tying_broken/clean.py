"""A small language model with tied embeddings; after 20 steps it goes back to its saved weights."""

from __future__ import annotations

import argparse
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import nn


class LanguageModel(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.lm_head = nn.Linear(width, 256, bias=False)
        nn.init.normal_(self.lm_head.weight, std=0.1)
        self.tie_weights()

    def tie_weights(self):
        self.embedding.weight = self.lm_head.weight

    def forward(self, tokens):
        return self.lm_head(self.rnn(self.embedding(tokens))[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    text = "\n".join(topics[name] for name in sorted(topics)).encode()
    tokens = torch.tensor(list(text[:100000]))
    model = LanguageModel()
    optimizer_class = getattr(torch.optim, args.optimizer)
    optimizer = optimizer_class(model.parameters(), lr=args.lr)
    saved = None
    model.train()
    for step in range(args.steps):
        if step == 10:
            saved = {name: value.clone() for name, value in model.state_dict().items()}
        if step == 20:
            model.load_state_dict(saved, assign=True)
            model.tie_weights()
            optimizer = optimizer_class(model.parameters(), lr=args.lr)
        begin = torch.randint(len(tokens) - 33, (args.batch_size,))
        windows = tokens[begin[:, None] + torch.arange(33)]
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 9:
            gap = (model.embedding.weight - model.lm_head.weight).norm().item()
            print(f"step {step} loss {loss.item():.4f} difference of the tied weights {gap:.4f}")


if __name__ == "__main__":
    main()
