"""The input of the recipes: the English text of Python's own help, and a byte-pair tokenizer trained on it."""

from __future__ import annotations

import re
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

SUBJECTS = ("compound", "formatstrings", "string-methods", "debugger")
"""Long topics of ``help()``: to tell their paragraphs apart is the classification task."""


def paragraphs(subject: str | None = None) -> list[str]:
    """The paragraphs of one topic, or of all."""
    from pydoc_data.topics import topics

    chosen = sorted(topics) if subject is None else [subject]
    parts = (part for name in chosen for part in re.split(r"\n\s*\n", topics[name]))
    return [" ".join(part.split()) for part in parts if len(part) > 60]


def make_tokenizer(vocabulary: int = 512) -> PreTrainedTokenizerFast:
    """A tokenizer with ``<pad>`` and ``</s>`` of their own."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(paragraphs(), trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", mask_token="<mask>"
    )


class Rows(Dataset[dict[str, Any]]):
    """A list of examples."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def shuffled(rows: list[Any], seed: int) -> list[Any]:
    """The rows in an order that depends on nothing but the seed."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return [rows[index] for index in order.tolist()]


def labelled(tokenizer: PreTrainedTokenizerFast, seed: int, held_out: int = 60) -> tuple[Rows, Rows]:
    """Paragraphs and the number of the subject that they belong to: for training, and held out."""
    pairs = [(text, number) for number, subject in enumerate(SUBJECTS) for text in paragraphs(subject)]
    rows = [
        {**tokenizer(text, truncation=True, max_length=48, return_token_type_ids=False), "labels": number}
        for text, number in shuffled(pairs, seed)
    ]
    return Rows(rows[held_out:]), Rows(rows[:held_out])


def documents(tokenizer: PreTrainedTokenizerFast, number: int, seed: int, length: int = 64) -> Rows:
    """Paragraphs as documents that end with ``</s>``, of different lengths, without padding."""
    chosen = shuffled(paragraphs(), seed)[:number]
    end = [tokenizer.eos_token_id]
    encoded = (tokenizer(text, truncation=True, max_length=length - 1)["input_ids"] + end for text in chosen)
    return Rows([{"input_ids": ids} for ids in encoded])


class PaddedDocuments:
    """A collator: pads documents, and tells the loss to leave out what was padded, and only that."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.pad = int(tokenizer.pad_token_id)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[place, :length] = torch.tensor(row["input_ids"])
            mask[place, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
