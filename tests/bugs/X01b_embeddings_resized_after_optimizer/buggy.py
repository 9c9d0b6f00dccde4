"""A byte-level Llama with two more tokens than its text has, and an optimizer with groups of our own."""

from __future__ import annotations

import argparse
import tempfile
from pydoc_data.topics import topics

import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, get_scheduler, set_seed


class Bytes(Dataset):
    """Pieces of the text of Python's help, as bytes."""

    def __init__(self, number, seed, length=48):
        text = torch.tensor(list("\n".join(topics[name] for name in sorted(topics)).encode()))
        starts = torch.randint(len(text) - length, (number,), generator=torch.Generator().manual_seed(seed))
        self.pieces = [text[start : start + length] for start in starts.tolist()]

    def __len__(self):
        return len(self.pieces)

    def __getitem__(self, index):
        return {"input_ids": self.pieces[index], "labels": self.pieces[index]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--optimizer", default="AdamW", help="a class of torch.optim")
    args = parser.parse_args()
    set_seed(args.seed)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config)
    decayed = [param for param in model.parameters() if param.dim() > 1]
    others = [param for param in model.parameters() if param.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = getattr(torch.optim, args.optimizer)(groups, lr=args.lr)
    model.resize_token_embeddings(258)
    steps = args.epochs * -(-320 // args.batch_size)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=4, num_training_steps=steps)
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output_dir=output,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            seed=args.seed,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            logging_steps=10,
            save_strategy="no",
        )
        Trainer(
            model=model,
            args=arguments,
            train_dataset=Bytes(320, args.seed),
            optimizers=(optimizer, scheduler),
        ).train()


if __name__ == "__main__":
    main()
