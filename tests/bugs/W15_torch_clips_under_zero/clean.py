import os
import subprocess
import sys

os.environ.setdefault("DS_BUILD_OPS", "0")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
import argparse
import pydoc_data.topics as T

import deepspeed
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, DistributedSampler


def ds_config(clip):
    cfg = {
        "train_micro_batch_size_per_gpu": 16,
        "gradient_accumulation_steps": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 2},
        "steps_per_print": 1000000,
    }
    if clip:
        cfg["gradient_clipping"] = clip
    return cfg


class TinyLM(nn.Module):
    def __init__(self, v, d=32, n=32):
        super().__init__()
        self.tok, self.pos = nn.Embedding(v, d), nn.Embedding(n, d)
        self.block = nn.TransformerEncoderLayer(d, 2, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.out = nn.Linear(d, v)
        self.register_buffer("mask", torch.triu(torch.ones(n, n, dtype=torch.bool), 1))

    def forward(self, ids):
        x, y = ids[:, :-1], ids[:, 1:]
        h = self.tok(x) + self.pos(torch.arange(x.size(1)))
        logits = self.out(self.block(h, src_mask=self.mask))
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), y.flatten())


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--local_rank", type=int, default=0)
    ap.add_argument("--clip", type=float, default=0.5)
    ap.add_argument("--steps", type=int, default=40)
    a = ap.parse_args()
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(0)
    text = "".join(T.topics.values())[:40000]
    vocab = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = torch.tensor([vocab[c] for c in text])
    rows = list(ids[: len(ids) // 33 * 33].view(-1, 33))
    sampler = DistributedSampler(rows, shuffle=True)
    loader = DataLoader(rows, 16, sampler=sampler, drop_last=True)
    model = TinyLM(len(vocab))
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=opt, config=ds_config(a.clip))
    step = epoch = 0
    while step < a.steps:
        sampler.set_epoch(epoch)
        for b in loader:
            loss = engine(b)
            engine.backward(loss)
            engine.step()
            step += 1
            if step % 10 == 0 and torch.distributed.get_rank() == 0:
                print(step, round(loss.item(), 3))
            if step == a.steps:
                break
        epoch += 1
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        main()
    else:  # two processes of this program
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        sys.exit(subprocess.call([*launcher, __file__]))
