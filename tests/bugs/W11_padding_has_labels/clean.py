import pydoc_data.topics as T
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

PAD = 0


class LineDataset(torch.utils.data.Dataset):
    """One line of text per row, lines of very different lengths."""

    def __init__(self, text, vocab, max_len=48):
        self.lines = [line.strip()[:max_len] for line in text.splitlines() if len(line.strip()) > 3]
        self.vocab = vocab

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, i):
        return {"input_ids": [self.vocab[c] for c in self.lines[i]]}


@dataclass
class PadCollator:
    pad_id: int = PAD

    def __call__(self, rows):
        n = max(len(r["input_ids"]) for r in rows)
        ids, mask, labels = [], [], []
        for r in rows:
            s = r["input_ids"]
            k = n - len(s)
            ids.append(s + [self.pad_id] * k)
            mask.append([1] * len(s) + [0] * k)
            labels.append(s + [-100] * k)
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


def main():
    set_seed(3)
    text = "".join(T.topics.values())[:60000]
    vocab = {c: i + 1 for i, c in enumerate(sorted(set(text)))}
    data = LineDataset(text, vocab)
    cfg = LlamaConfig(
        vocab_size=len(vocab) + 1,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(cfg)
    args = TrainingArguments(
        "o",
        num_train_epochs=1,
        max_steps=40,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=5e-3,
        lr_scheduler_type="cosine",
        logging_steps=8,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=args, train_dataset=data, data_collator=PadCollator())
    trainer.train()


if __name__ == "__main__":
    main()
