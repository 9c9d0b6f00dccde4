"""A small BERT classifier (1 M parameters) trained by the Transformers Trainer on generated text, batch 16."""

import tempfile

import torch
from timed import Clock, steps
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments


class StepClock(TrainerCallback):
    """From the end of one step to the end of the next."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.clock = Clock()

    def on_step_end(self, args, state, control, **kwargs):
        self.clock.tick()


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (16 * steps(),))
    ids = torch.randint(2, 512, (16 * steps(), 48))
    ids[:, 0] = labels
    dataset = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
    model = BertForSequenceClassification(
        BertConfig(vocab_size=512, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512)
    )
    callback = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=16,
            learning_rate=1e-4,
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=True,
        )
        Trainer(model, arguments, train_dataset=dataset, callbacks=[callback]).train()
    callback.clock.report()


if __name__ == "__main__":
    main()
