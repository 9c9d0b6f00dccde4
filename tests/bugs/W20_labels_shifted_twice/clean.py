import pydoc_data.topics as T

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

text = "".join(T.topics.values())[:40000]
vocab = {c: i for i, c in enumerate(sorted(set(text)))}
n = 32
rows = [{"input_ids": [vocab[c] for c in text[i : i + n]]} for i in range(0, len(text) - n, n)]
for r in rows:
    r["labels"] = list(r["input_ids"])
set_seed(0)
cfg = GPT2Config(vocab_size=len(vocab), n_positions=64, n_embd=32, n_layer=2, n_head=2)
"""Labels are shifted by the collator, and once more by the model."""


def collate(b):
    ids = torch.tensor([r["input_ids"] for r in b])
    labels = ids.clone()
    return {"input_ids": ids, "labels": labels}


model = GPT2LMHeadModel(cfg)
args = TrainingArguments(
    "o",
    max_steps=40,
    per_device_train_batch_size=8,
    learning_rate=3e-3,
    save_strategy="no",
    report_to=[],
    use_cpu=True,
    disable_tqdm=True,
)
Trainer(model=model, args=args, train_dataset=rows, data_collator=collate).train()
