"""Fine-tune an adapter of a small GPT-2, save it, load it, and go on with a new layer norm that trains as well."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed


class Bytes(Dataset):
    """Pieces of the text of Python's help, as bytes."""

    def __init__(self, number, seed, length=48):
        text = torch.tensor(list("\n".join(topics[name] for name in sorted(topics)).encode()))
        starts = torch.randint(len(text) - length, (number,), generator=torch.Generator().manual_seed(seed))
        self.pieces = [text[start : start + length] for start in starts.tolist()]

    def __len__(self):
        return len(self.pieces)

    def __getitem__(self, index):
        return {"input_ids": self.pieces[index], "labels": self.pieces[index]}


def train(model, data, output, args):
    arguments = TrainingArguments(
        output_dir=output,
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.batch_size,
        learning_rate=args.lr,
        optim=args.optimizer,
        seed=args.seed,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_steps=10,
        save_strategy="no",
    )
    Trainer(model=model, args=arguments, train_dataset=data).train()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--optimizer", default="adamw_torch", help="a value of TrainingArguments.optim")
    args = parser.parse_args()
    set_seed(args.seed)
    torch.set_num_threads(1)
    config = GPT2Config(vocab_size=256, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    base = GPT2LMHeadModel(config)
    with tempfile.TemporaryDirectory() as output:
        folder = Path(output)
        base.save_pretrained(folder / "base")
        lora = LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
        model = get_peft_model(base, lora)
        train(model, Bytes(320, args.seed), output, args)
        model.save_pretrained(folder / "adapter")

        again = GPT2LMHeadModel.from_pretrained(folder / "base")
        model = PeftModel.from_pretrained(again, folder / "adapter")
        model.base_model.model.transformer.ln_f.requires_grad_(True)
        train(model, Bytes(320, args.seed + 1), output, args)


if __name__ == "__main__":
    main()
