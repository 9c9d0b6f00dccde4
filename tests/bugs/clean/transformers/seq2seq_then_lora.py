"""A small T5 that learns to reverse: Adafactor and label smoothing first, then low-rank adapters and accumulation."""

from __future__ import annotations

import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, T5Config, T5ForConditionalGeneration

BATCH_SIZE = 16


def examples(count):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        length = int(torch.randint(4, 8, (), generator=generator))
        source = torch.randint(3, 30, (length,), generator=generator).tolist()
        yield {"input_ids": source, "labels": [*source[::-1], 1]}


def padded(rows, value):
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def main():
    torch.manual_seed(0)
    data = list(examples(200))
    config = T5Config(
        vocab_size=32, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_decoder_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)

    def collate(batch):
        source = padded([example["input_ids"] for example in batch], 0)
        labels = padded([example["labels"] for example in batch], -100)
        started = model.prepare_decoder_input_ids_from_labels(labels)
        return {
            "input_ids": source,
            "attention_mask": (source != 0).long(),
            "labels": labels,
            "decoder_input_ids": started,
        }

    def lengths(prediction):
        return {"length": float((prediction.predictions != 0).sum(1).mean())}

    def train(trained, **options):
        with tempfile.TemporaryDirectory() as folder:
            arguments = Seq2SeqTrainingArguments(
                folder, per_device_train_batch_size=BATCH_SIZE, per_device_eval_batch_size=BATCH_SIZE,
                num_train_epochs=2, eval_strategy="epoch", predict_with_generate=True, generation_max_length=10,
                report_to=[], disable_tqdm=True, learning_rate=3e-3, save_strategy="no", use_cpu=True, **options,
            )  # fmt: skip
            trainer = Seq2SeqTrainer(
                trained,
                arguments,
                train_dataset=data[:160],
                eval_dataset=data[160:],
                data_collator=collate,
                compute_metrics=lengths,
            )
            trainer.train()

    train(model, label_smoothing_factor=0.1, optim="adafactor")
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM", lora_dropout=0.05)
    )
    train(adapted, lr_scheduler_type="reduce_lr_on_plateau", gradient_accumulation_steps=2)
    adapted.merge_and_unload()


if __name__ == "__main__":
    main()
