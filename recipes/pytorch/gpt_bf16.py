"""A small GPT in bfloat16 mixed precision: autocast on the CPU, a DataLoader, no gradient scaler."""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from data import topics_bytes
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset


class ByteBlocks(Dataset[tuple[Tensor, Tensor]]):
    """Consecutive blocks of the text, each with the same block one byte later as target."""

    def __init__(self, tokens: Tensor, block_size: int) -> None:
        self.tokens, self.block_size = tokens, block_size

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.block_size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self.block_size
        stop = start + self.block_size
        return self.tokens[start:stop], self.tokens[start + 1 : stop + 1]


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.residual_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = self.qkv(self.norm_1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout_p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], dropout_p=dropout_p, is_causal=True)
        x = x + self.residual_dropout(self.out(y.transpose(1, 2).reshape(batch, length, width)))
        return x + self.residual_dropout(self.mlp(self.norm_2(x)))


class GPT(nn.Module):
    def __init__(self, block_size: int, width: int = 48, heads: int = 4, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.token = nn.Embedding(256, width)
        self.position = nn.Embedding(block_size, width)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def evaluate(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]]) -> float:
    model.eval()
    total = 0.0
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for x, y in loader:
            total += F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
    model.train()
    return total / len(loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--block-size", type=int, default=48)
    parser.add_argument("--eval-every", type=int, default=10)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    tokens = topics_bytes()
    train_size = 2 * args.batch_size * args.block_size * max(1, args.steps // 4)
    train_set = ByteBlocks(tokens[: train_size + 1], args.block_size)
    val_set = ByteBlocks(tokens[-4000:], args.block_size)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=32)

    def lr_factor(step: int) -> float:
        if step < args.warmup:
            return step / args.warmup
        progress = (step - args.warmup) / max(1, args.steps - args.warmup)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))

    model = GPT(args.block_size)
    decayed = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=args.lr
    )
    scheduler = LambdaLR(optimizer, lr_factor)

    step = 0
    while step < args.steps:
        for x, y in train_loader:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x)
                loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            step += 1
            if step % args.eval_every == 0:
                print(f"step {step} loss {loss.item():.3f} validation {evaluate(model, val_loader):.3f}")
            if step == args.steps:
                break


if __name__ == "__main__":
    main()
