"""Only the assistant's turns count, many conversations end with the user's, and losses are normalised per step."""

from __future__ import annotations

import argparse
import codecs
import this
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

END = 3


class ChatModel(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.config = SimpleNamespace(eos_token_id=END)
        self.embedding = nn.Embedding(128, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 128)

    def forward(self, input_ids, attention_mask, labels):
        logits = self.head(self.rnn(self.embedding(input_ids) * attention_mask[..., None])[0])
        losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
        return losses.sum()


def conversation(lines):
    """User and assistant in turn, each turn with its end; only what the assistant says has labels."""
    ids, labels = [], []
    for turn, line in enumerate(lines):
        tokens = [*map(ord, line[:24]), END]
        ids += tokens
        labels += tokens if turn % 2 else [-100] * len(tokens)
    return torch.tensor(ids), torch.tensor(labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    lines = [line for line in codecs.decode(this.s, "rot13").splitlines() if line]
    model = ChatModel()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for step in range(args.steps):
        batches = []
        for _ in range(args.accumulation):
            starts = torch.randint(len(lines) - 4, (args.batch_size,)).tolist()
            rows = [conversation(lines[start : start + 2 + start % 3]) for start in starts]
            ids = pad_sequence([ids for ids, _ in rows], batch_first=True, padding_value=END)
            labels = pad_sequence([labels for _, labels in rows], batch_first=True, padding_value=-100)
            mask = pad_sequence([torch.ones_like(ids) for ids, _ in rows], batch_first=True)
            batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
        count = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches)
        optimizer.zero_grad()
        for batch in batches:
            loss = model(**batch) / count
            loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step} loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
