"""Fine-tune a small recurrent language model on questions and answers: only answers count, and they end where they end.

The prompt and the padding have the label -100. The padding is the end-of-sequence token, as many tokenizers have it, so
labels follow the attention mask and not the token. The loss of a step is a sum over all its micro-batches, divided once
by the number of tokens that count.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from data import topics_text
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

EOS = 0
IGNORED = -100


@dataclass
class Config:
    vocabulary: int = 128
    width: int = 64
    eos_token_id: int = EOS
    pad_token_id: int = EOS


class RecurrentLM(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.rnn = nn.GRU(config.width, config.width, batch_first=True)
        self.head = nn.Linear(config.width, config.vocabulary)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, num_targets: int) -> Tensor:
        hidden, _ = self.rnn(self.embedding(input_ids) * attention_mask.unsqueeze(2))
        logits = self.head(hidden)[:, :-1]
        total = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")
        return total / num_targets


def examples(count: int) -> list[tuple[list[int], list[int]]]:
    """A paragraph's first line as the question, its second as the answer, as ASCII codes."""
    lines = [line.strip() for line in topics_text().splitlines() if line.strip()]
    pairs = itertools.islice(itertools.pairwise(lines), count)
    return [([ord(c) % 128 for c in question[:40]], [ord(c) % 128 for c in answer[:40]]) for question, answer in pairs]


def collate(rows: list[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
    ids = [torch.tensor([*question, *answer, EOS]) for question, answer in rows]
    labels = [torch.tensor([IGNORED] * len(question) + [*answer, EOS]) for question, answer in rows]
    masks = [torch.ones(len(row), dtype=torch.long) for row in ids]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=EOS),
        "attention_mask": pad_sequence(masks, batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }


def num_targets(batch: dict[str, Tensor]) -> int:
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--lr", type=float, default=5e-3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rows = examples(args.steps * args.accumulation * args.batch_size + 64)
    loader = DataLoader(rows[64:], batch_size=args.batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    validation = collate(rows[:64])
    model = RecurrentLM(Config())
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    batches = iter(loader)
    for step in range(args.steps):
        window = [next(batches) for _ in range(args.accumulation)]
        count = sum(map(num_targets, window))
        total = 0.0
        for batch in window:
            loss = model(**batch, num_targets=count)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 9:
            model.eval()
            with torch.no_grad():
                held_out = model(**validation, num_targets=num_targets(validation)).item()
            model.train()
            print(f"step {step} loss {total:.3f} validation {held_out:.3f}")


if __name__ == "__main__":
    main()
