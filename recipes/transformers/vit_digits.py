"""A small vision transformer on handwritten digits: SGD with momentum, a fixed number of steps, no evaluation.

With ``--adapter`` only low-rank adapters and the head are trained; they are saved, and trained on after loading.
"""

from __future__ import annotations

import argparse
import tempfile

import settings
import torch
from text import Rows
from torch import nn
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification, set_seed


def digits() -> Rows:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    return Rows([{"pixel_values": pixels[place], "labels": int(label)} for place, label in enumerate(labels)])


def train(model: nn.Module, data: Rows, args: argparse.Namespace, output: str) -> None:
    arguments = TrainingArguments(
        **settings.common(args, output), max_steps=args.steps, save_strategy="no", max_grad_norm=0.0
    )
    Trainer(model=model, args=arguments, train_dataset=data).train()


def train_adapter(model: ViTForImageClassification, data: Rows, args: argparse.Namespace, output: str) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    model.save_pretrained(f"{output}/base")
    config = LoraConfig(r=4, target_modules="all-linear", modules_to_save=["classifier"])
    adapted = get_peft_model(model, config)
    train(adapted, data, args, output)
    adapted.save_pretrained(f"{output}/adapter")
    base = ViTForImageClassification.from_pretrained(f"{output}/base")
    train(PeftModel.from_pretrained(base, f"{output}/adapter", is_trainable=True), data, args, output)


def main() -> None:
    parser = settings.parser(__doc__, batch_size=32, lr=0.05)
    parser.set_defaults(optim="sgd", schedule="constant_with_warmup", warmup_steps=5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--adapter", action="store_true")
    args = parser.parse_args()
    set_seed(args.seed)
    torch.set_num_threads(1)
    config = ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=8, patch_size=2,
        num_channels=1, num_labels=10,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    with tempfile.TemporaryDirectory() as output:
        (train_adapter if args.adapter else train)(model, digits(), args, output)


if __name__ == "__main__":
    main()
