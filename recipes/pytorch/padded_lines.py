"""Lines of text of different lengths, padded on the right, and a transformer that tells whether a line holds code."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from data import topics_text
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD = 0
LENGTH = 60


class LineClassifier(nn.Module):
    def __init__(self, width: int = 32, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.tokens = nn.Embedding(128, width, padding_idx=PAD)
        self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 1)

    def forward(self, ids: Tensor) -> Tensor:
        padding = ids == PAD
        x = self.encoder(self.tokens(ids) + self.positions[: ids.shape[1]], src_key_padding_mask=padding)
        x = x.masked_fill(padding.unsqueeze(-1), 0.0).sum(1) / (~padding).sum(1, keepdim=True)
        return self.head(x)


def lines() -> list[tuple[Tensor, float]]:
    texts = [line.strip()[:LENGTH] for line in topics_text().splitlines() if len(line.strip()) > 8]
    return [(torch.tensor([1 + ord(c) % 127 for c in text]), float("(" in text or "=" in text)) for text in texts]


def collate(rows: list[tuple[Tensor, float]]) -> tuple[Tensor, Tensor]:
    ids = pad_sequence([row for row, _ in rows], batch_first=True, padding_value=PAD)
    return ids, torch.tensor([target for _, target in rows]).unsqueeze(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--loss", choices=("logits", "squares"), default="logits")
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rows = lines()
    loader = DataLoader(
        rows[100 : 100 + args.steps * args.batch_size], args.batch_size, shuffle=True, collate_fn=collate
    )
    ids, targets = collate(rows[:100])
    model = LineClassifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    for step, (batch, target) in enumerate(loader):
        model.train()
        output = model(batch)
        if args.loss == "logits":
            loss = F.binary_cross_entropy_with_logits(output, target)
        else:
            loss = ((output.sigmoid() - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            model.eval()
            with torch.no_grad():
                accuracy = ((model(ids) > 0) == (targets > 0.5)).float().mean().item()
            print(f"step {step} loss {loss.item():.4f} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
