"""Fine-tune a tiny GPT-like model on lines of a poem; the padding token is the end-of-sequence token."""

from __future__ import annotations

import argparse
import codecs
import this
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

END = PAD = 127


class TinyGPT(nn.Module):
    def __init__(self, width=48, block=80):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=128, eos_token_id=END, pad_token_id=PAD)
        self.wte, self.wpe = nn.Embedding(128, width), nn.Embedding(block, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 128, bias=False)

    def forward(self, input_ids, attention_mask, labels=None):
        length = input_ids.shape[1]
        x = self.wte(input_ids) + self.wpe(torch.arange(length))
        x = self.blocks(x, mask=nn.Transformer.generate_square_subsequent_mask(length), is_causal=True)
        logits = self.head(x)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}


def collate(rows):
    length = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    labels = ids.clone()
    labels[labels == PAD] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    lines = [line for line in codecs.decode(this.s, "rot13").splitlines() if line]
    rows = [[ord(c) for c in line] + [END] for line in lines]
    loader = DataLoader(rows, batch_size=args.batch_size, shuffle=True, collate_fn=collate)
    model = TinyGPT()
    optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        for batch in loader:
            loss = model(**batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = model(**collate(rows))["loss"].item()
        print(f"epoch {epoch} loss {loss:.4f}")


if __name__ == "__main__":
    main()
