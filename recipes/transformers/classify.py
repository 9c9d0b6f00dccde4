"""Text classification with a small BERT: evaluation in every epoch, the best checkpoint loaded at the end."""

from __future__ import annotations

import tempfile

import settings
import torch
from text import SUBJECTS, labelled, make_tokenizer
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)


def accuracy(outcome: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((outcome.predictions.argmax(-1) == outcome.label_ids).mean())}


def main() -> None:
    parser = settings.parser(__doc__)
    parser.add_argument("--patience", type=int, default=0, help="stop after so many evaluations without progress")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    set_seed(args.seed)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    training, testing = labelled(tokenizer, args.seed)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=64, num_labels=len(SUBJECTS), pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            **settings.common(args, output),
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            torch_compile=args.compile,
            torch_compile_backend="aot_eager" if args.compile else None,
        )
        trainer = Trainer(
            model=BertForSequenceClassification(config),
            args=arguments,
            train_dataset=training,
            eval_dataset=testing,
            data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=48 if args.compile else None),
            compute_metrics=accuracy,
            callbacks=[EarlyStoppingCallback(args.patience)] if args.patience else [],
        )
        trainer.train()
        print(f"accuracy on held-out paragraphs {trainer.evaluate()['eval_accuracy']:.3f}")


if __name__ == "__main__":
    main()
