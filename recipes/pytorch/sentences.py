"""A transformer on sentences of different lengths, padded on the left, in micro-batches of a fixed number of rows.

Padding has a token of its own and does not count. The sum of the losses of a micro-batch is scaled by the number of
tokens of the whole step, which the program knows beforehand.
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from data import topics_text
from torch import Tensor, nn

PAD, END = 0, 1
LENGTH = 40


class SentenceModel(nn.Module):
    def __init__(self, width: int = 48, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.config = SimpleNamespace(eos_token_id=[END])
        self.tokens = nn.Embedding(128, width, padding_idx=PAD)
        self.positions = nn.Embedding(LENGTH, width)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 128)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """The summed loss of all tokens that count."""
        length = input_ids.shape[1]
        causal = nn.Transformer.generate_square_subsequent_mask(length)
        places = (attention_mask.cumsum(1) - 1).clamp(min=0)
        x = self.tokens(input_ids) + self.positions(places)
        logits = self.head(self.encoder(x, mask=causal, is_causal=True))
        return F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="sum")


def sentences() -> list[Tensor]:
    lines = [line.strip() for line in topics_text().splitlines() if len(line.strip()) > 8]
    return [torch.tensor([*(2 + ord(c) % 126 for c in line[: LENGTH - 1]), END]) for line in lines]


def padded(rows: list[Tensor]) -> dict[str, Tensor]:
    length = max(map(len, rows))
    ids = torch.stack([F.pad(row, (length - len(row), 0), value=PAD) for row in rows])
    mask = torch.stack([F.pad(torch.ones_like(row), (length - len(row), 0)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--micro-batches", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.2)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rows = sentences()
    validation, training = padded(rows[:32]), rows[32:]
    model = SentenceModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    for step in range(args.steps):
        chosen = torch.randint(len(training), (args.micro_batches, args.batch_size)).tolist()
        micro_batches = [padded([training[i] for i in index]) for index in chosen]
        scale = 1.0 / sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in micro_batches)
        optimizer.zero_grad()
        for batch in micro_batches:
            loss = scale * model(**batch)
            loss.backward()
        optimizer.step()
        if step % 10 == 9:
            model.eval()
            with torch.no_grad():
                mean = model(**validation) / (validation["labels"][:, 1:] != -100).sum()
            model.train()
            print(f"step {step} validation {mean.item():.3f}")


if __name__ == "__main__":
    main()
