"""A small T5 that repairs text: ``Seq2SeqTrainer``, evaluation by generation."""

from __future__ import annotations

import tempfile
from typing import Any

import settings
import torch
from text import Rows, make_tokenizer, paragraphs, shuffled
from transformers import (
    DataCollatorForSeq2Seq,
    EvalPrediction,
    PreTrainedTokenizerFast,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

WORDS = 6


def pairs(tokenizer: PreTrainedTokenizerFast, number: int, seed: int) -> Rows:
    """The first words of a paragraph in reverse order, and as they were written."""
    rows: list[dict[str, Any]] = []
    end = [tokenizer.eos_token_id]
    for text in shuffled(paragraphs(), seed)[:number]:
        words = text.split()[:WORDS]
        source, target = " ".join(reversed(words)), " ".join(words)
        ids = tokenizer(source, truncation=True, max_length=31)["input_ids"] + end
        labels = tokenizer(target, truncation=True, max_length=31)["input_ids"] + end
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
    return Rows(rows)


def main() -> None:
    args = settings.parser(__doc__, batch_size=16, epochs=2).parse_args()
    set_seed(args.seed)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer), d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)

    def length(outcome: EvalPrediction) -> dict[str, float]:
        return {"length": float((outcome.predictions > 0).sum(-1).mean())}

    with tempfile.TemporaryDirectory() as output:
        trainer = Seq2SeqTrainer(
            model=model,
            args=Seq2SeqTrainingArguments(
                **settings.common(args, output),
                eval_strategy="epoch",
                save_strategy="no",
                label_smoothing_factor=0.1,
                predict_with_generate=True,
                generation_max_length=24,
            ),
            train_dataset=pairs(tokenizer, 320, args.seed),
            eval_dataset=pairs(tokenizer, 32, args.seed + 1),
            data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
            compute_metrics=length,
        )
        trainer.train()
        print(f"length of what is generated {trainer.evaluate()['eval_length']:.1f}")


if __name__ == "__main__":
    main()
