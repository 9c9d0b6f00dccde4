"""The Trainer on two processes: DistributedDataParallel, accumulation under ``no_sync``, evaluation on both.

Starts its own two processes, or runs under ``torchrun --nproc-per-node 2 recipes/transformers/ddp.py``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import settings
import torch
import torch.distributed as dist
from text import PaddedDocuments, documents, make_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    set_seed(args.seed)
    tokenizer = make_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=48, n_layer=2, n_head=4, bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    trainer = Trainer(
        model=GPT2LMHeadModel(config),
        args=TrainingArguments(
            **settings.common(args, str(args.output)),
            eval_strategy="epoch",
            save_strategy="epoch",
            ddp_find_unused_parameters=False,
        ),
        train_dataset=documents(tokenizer, 240, args.seed),
        eval_dataset=documents(tokenizer, 32, args.seed + 1),
        data_collator=PaddedDocuments(tokenizer),
    )
    trainer.train()
    # Gloo's threads must be idle when the group ends: they do not survive the interpreter.
    dist.barrier()
    time.sleep(0.2)
    dist.destroy_process_group()


def main() -> None:
    parser = settings.parser(__doc__, batch_size=8, epochs=1)
    parser.set_defaults(accumulation=2)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if "RANK" in os.environ:
        train(args)
        return
    with tempfile.TemporaryDirectory() as output:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*launcher, __file__, *sys.argv[1:], "--output", output]
        raise SystemExit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
