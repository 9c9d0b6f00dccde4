import math
import os
import pydoc_data.topics as topics

import torch
import torch.nn as nn

TOTAL, STOP, WARM, CTX = 48, 24, 6, 24
text = "".join(list(topics.topics.values()))[:30000]
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])


class Block(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.att = nn.MultiheadAttention(d, h, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.register_buffer("mask", torch.triu(torch.ones(CTX, CTX, dtype=torch.bool), 1))

    def forward(self, x):
        y = self.ln1(x)
        x = x + self.att(y, y, y, attn_mask=self.mask, need_weights=False)[0]
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.tok, self.pos = nn.Embedding(len(chars), d), nn.Embedding(CTX, d)
        self.blocks = nn.Sequential(Block(d, 2), Block(d, 2))
        self.head = nn.Linear(d, len(chars))

    def forward(self, i):
        return self.head(self.blocks(self.tok(i) + self.pos.weight))


def lr_lambda(s):
    return (s + 1) / WARM if s < WARM else 0.5 * (1 + math.cos(math.pi * (s - WARM) / (TOTAL - WARM)))


def build():
    model = GPT()
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    return model, opt, torch.optim.lr_scheduler.LambdaLR(opt, lr_lambda)


def train(until, ckpt=None):
    model, opt, sched = build()
    start = 0
    if ckpt and os.path.exists(ckpt):
        state = torch.load(ckpt)
        model.load_state_dict(state["model"])
        opt.load_state_dict(state["optimizer"])
        sched.load_state_dict(state["scheduler"])
        start = state["step"]
        print("resumed at step", start)
    for step in range(start, until):
        i = torch.randint(len(data) - CTX - 1, (16,))
        x = torch.stack([data[j : j + CTX] for j in i])
        y = torch.stack([data[j + 1 : j + CTX + 1] for j in i])
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        if step % 6 == 5:
            print(f"step {step + 1} loss {loss.item():.3f}")
    torch.save(
        {"model": model.state_dict(), "optimizer": opt.state_dict(), "scheduler": sched.state_dict(), "step": until},
        "ckpt.pt",
    )


torch.manual_seed(0)
train(STOP)  # the first job ends here (time limit)
train(TOTAL, "ckpt.pt")  # the second job goes on
