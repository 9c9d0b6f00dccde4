"""A Trainer that trains a tiny BERT for a second, for the tests of the callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

WORDS = 60
LENGTH = 12


class Sentences(Dataset[dict[str, Any]]):
    """Random words; the label says whether their sum is odd."""

    def __init__(self, number: int, seed: int = 0) -> None:
        self.words = torch.randint(0, WORDS, (number, LENGTH), generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, Any]:
        words = self.words[index]
        return {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": int(words.sum() % 2)}


def tiny_model(seed: int = 0, **options: Any) -> BertForSequenceClassification:
    """Two layers, 16 wide."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=2,
        **options,
    )
    return BertForSequenceClassification(config)


def tiny_trainer(
    folder: Path,
    *callbacks: TrainerCallback,
    kind: type[Trainer] = Trainer,
    model: torch.nn.Module | None = None,
    samples: int = 64,
    optimizers: tuple[Any, Any] = (None, None),
    **arguments: Any,
) -> Trainer:
    """Eight steps an epoch, two epochs, on the CPU, without progress bars, with every option of the Trainer open."""
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "logging_steps": 4,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return kind(
        model=tiny_model() if model is None else model,
        args=TrainingArguments(**{**defaults, **arguments}),
        train_dataset=Sentences(samples),
        eval_dataset=Sentences(16, seed=1),
        callbacks=list(callbacks),
        optimizers=optimizers,
    )
