"""A Transformers training that TrainCheck watches: the one line to copy is the last of the Trainer's arguments.

    python recipes/demo/transformers_callback.py [--wrong]

With ``--wrong``, the classification head is replaced after the optimizer was built: the loss falls, and nothing but the
callback complains.
"""

from __future__ import annotations

import argparse
import tempfile
from pydoc_data.topics import topics
from typing import Any

import torch
from torch.utils.data import Dataset
from traincheck.integrations.transformers import TrainCheckCallback
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, get_scheduler, set_seed

SUBJECTS = ("compound", "formatstrings")
LENGTH = 40


class Pieces(Dataset[dict[str, Any]]):
    """Pieces of two topics of Python's help, as bytes, and the number of the topic."""

    def __init__(self, number: int) -> None:
        texts = [torch.tensor(list(topics[subject].encode())) for subject in SUBJECTS]
        self.rows = []
        for index in range(number):
            text = texts[index % len(texts)]
            start = int(torch.randint(len(text) - LENGTH, (1,)))
            self.rows.append({"input_ids": text[start : start + LENGTH], "labels": index % len(texts)})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def main() -> None:
    parser = argparse.ArgumentParser(description="A Transformers training that TrainCheck watches.")
    parser.add_argument("--wrong", action="store_true", help="replace the head after the optimizer was built")
    args = parser.parse_args()
    set_seed(0)
    config = BertConfig(
        vocab_size=256, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, num_labels=2,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=4, num_training_steps=60)
    if args.wrong:
        model.classifier = torch.nn.Linear(32, 2)
    with tempfile.TemporaryDirectory() as output:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=output,
                num_train_epochs=3,
                per_device_train_batch_size=16,
                logging_steps=20,
                use_cpu=True,
                disable_tqdm=True,
                report_to="none",
            ),
            train_dataset=Pieces(320),
            optimizers=(optimizer, schedule),
            callbacks=[TrainCheckCallback()],
        )
        trainer.train()


if __name__ == "__main__":
    main()
