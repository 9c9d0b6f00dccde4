"""LoRA on a small GPT-2 with PEFT: only the adapter trains, is saved, and goes on training after it was loaded."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import settings
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from text import PaddedDocuments, Rows, documents, make_tokenizer
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed


def train(model: nn.Module, data: Rows, tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace, to: str) -> None:
    arguments = TrainingArguments(**settings.common(args, to), save_strategy="epoch")
    Trainer(model=model, args=arguments, train_dataset=data, data_collator=PaddedDocuments(tokenizer)).train()


def main() -> None:
    parser = settings.parser(__doc__, batch_size=16, lr=5e-3, epochs=1)
    parser.add_argument("--rank", type=int, default=4)
    args = parser.parse_args()
    set_seed(args.seed)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=48, n_layer=2, n_head=4,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    base = GPT2LMHeadModel(config)
    adapter = LoraConfig(r=args.rank, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as output:
        base.save_pretrained(Path(output) / "base")
        model = get_peft_model(base, adapter)
        train(model, documents(tokenizer, 240, args.seed), tokenizer, args, f"{output}/first")
        model.save_pretrained(f"{output}/adapter")

        base_again = GPT2LMHeadModel.from_pretrained(Path(output) / "base")
        again = PeftModel.from_pretrained(base_again, f"{output}/adapter", is_trainable=True)
        train(again, documents(tokenizer, 240, args.seed + 1), tokenizer, args, f"{output}/second")
        again.print_trainable_parameters()


if __name__ == "__main__":
    main()
