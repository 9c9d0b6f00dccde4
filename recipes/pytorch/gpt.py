"""A small GPT on bytes of English text, trained as nanoGPT does: decay groups, warm-up, accumulation, clipping."""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from data import topics_bytes
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR


class CausalSelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        dropout_p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = CausalSelfAttention(width, heads, dropout)
        self.ln_2 = nn.LayerNorm(width)
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.dropout(self.c_proj(F.gelu(self.c_fc(self.ln_2(x)))))


class GPT(nn.Module):
    def __init__(
        self,
        block_size: int,
        width: int = 48,
        heads: int = 4,
        layers: int = 2,
        vocabulary: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(block_size, width)
        self.h = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def configure_optimizer(model: nn.Module, lr: float) -> torch.optim.AdamW:
    decayed = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--block-size", type=int, default=48)
    parser.add_argument("--eval-every", type=int, default=10)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    tokens = topics_bytes()
    split = int(0.9 * len(tokens))
    data = {"train": tokens[:split], "val": tokens[split:]}

    def get_batch(part: str) -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(data[part]) - args.block_size - 1, (args.batch_size,)).tolist()
        x = torch.stack([data[part][start : start + args.block_size] for start in starts])
        y = torch.stack([data[part][start + 1 : start + 1 + args.block_size] for start in starts])
        return x, y

    def lr_factor(step: int) -> float:
        if step < args.warmup:
            return step / args.warmup
        progress = (step - args.warmup) / max(1, args.steps - args.warmup)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))

    @torch.no_grad()
    def estimate_loss() -> dict[str, float]:
        model.eval()
        means = {part: sum(model(*get_batch(part))[1].item() for _ in range(3)) / 3 for part in data}
        model.train()
        return means

    model = GPT(args.block_size)
    optimizer = configure_optimizer(model, args.lr)
    scheduler = LambdaLR(optimizer, lr_factor)
    x, y = get_batch("train")
    for step in range(args.steps):
        if step % args.eval_every == 0:
            print(f"step {step} lr {scheduler.get_last_lr()[0]:.5f} {estimate_loss()}")
        for _ in range(args.accumulation):
            _, loss = model(x, y)
            x, y = get_batch("train")
            (loss / args.accumulation).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
    print(f"done {estimate_loss()}")


if __name__ == "__main__":
    main()
