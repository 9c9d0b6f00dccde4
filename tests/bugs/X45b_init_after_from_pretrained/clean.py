"""Fine-tune a small BERT that was trained and saved before."""

from __future__ import annotations

import argparse
import tempfile
from pydoc_data.topics import topics

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed


class Paragraphs(Dataset):
    """Pieces of two topics of Python's help, as bytes, and the number of the topic."""

    def __init__(self, number, seed, length=40):
        texts = [torch.tensor(list(topics[name].encode())) for name in ("compound", "formatstrings")]
        random = torch.Generator().manual_seed(seed)
        self.rows = []
        for index in range(number):
            text = texts[index % 2]
            start = int(torch.randint(len(text) - length, (1,), generator=random))
            self.rows.append({"input_ids": text[start : start + length], "labels": index % 2})

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def initialise(module):
    """Our own initialisation of linear layers."""
    if isinstance(module, torch.nn.Linear):
        torch.nn.init.trunc_normal_(module.weight, std=0.02)
        torch.nn.init.zeros_(module.bias)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--optimizer", default="adamw_torch", help="a value of TrainingArguments.optim")
    args = parser.parse_args()
    set_seed(args.seed)
    torch.set_num_threads(1)
    config = BertConfig(
        vocab_size=256,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=2,
    )
    with tempfile.TemporaryDirectory() as output:
        BertForSequenceClassification(config).save_pretrained(output)
        model = BertForSequenceClassification.from_pretrained(output)
        initialise(model.classifier)
        arguments = TrainingArguments(
            output_dir=output,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.lr,
            optim=args.optimizer,
            seed=args.seed,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            logging_steps=10,
            save_strategy="no",
        )
        Trainer(model=model, args=arguments, train_dataset=Paragraphs(320, args.seed)).train()


if __name__ == "__main__":
    main()
