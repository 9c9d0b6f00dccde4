"""A training that is interrupted several times, and resumed from its last checkpoint by a new Trainer each time."""

from __future__ import annotations

import argparse
import tempfile

import settings
import torch
from text import SUBJECTS, labelled, make_tokenizer
from transformers import (
    DataCollatorWithPadding,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)


class Interruption(TrainerCallback):
    """Ends the training early and saves it, as a job does when the cluster sends it away."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if state.global_step == self.step:
            control.should_save = control.should_training_stop = True


def make_trainer(args: argparse.Namespace, output: str, interrupted_at: int | None) -> Trainer:
    set_seed(args.seed)
    tokenizer = make_tokenizer()
    training, testing = labelled(tokenizer, args.seed)
    config = DistilBertConfig(
        vocab_size=len(tokenizer), dim=48, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=64,
        num_labels=len(SUBJECTS), pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    arguments = TrainingArguments(
        **settings.common(args, output),
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="steps",
        save_steps=10,
        load_best_model_at_end=True,
    )
    return Trainer(
        model=DistilBertForSequenceClassification(config),
        args=arguments,
        train_dataset=training,
        eval_dataset=testing,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[] if interrupted_at is None else [Interruption(interrupted_at)],
    )


def main() -> None:
    parser = settings.parser(__doc__, batch_size=24, epochs=2)
    parser.add_argument("--interrupted-at", type=int, nargs="+", default=[6, 14, 25])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as output:
        for number, step in enumerate([*args.interrupted_at, None]):
            trainer = make_trainer(args, output, step)
            trainer.train(resume_from_checkpoint=number > 0)
        print(f"step {trainer.state.global_step} epoch {trainer.state.epoch} best {trainer.state.best_metric:.3f}")


if __name__ == "__main__":
    main()
