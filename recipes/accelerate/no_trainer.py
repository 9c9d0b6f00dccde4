"""A loop in the shape of the ``no_trainer`` examples: accumulation, clipping where it updates, evaluation inside."""

from __future__ import annotations

import tempfile

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from inputs import Loader, loaders, options
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


def evaluate(accelerator: Accelerator, model: nn.Module, batches: Loader) -> float:
    model.eval()
    right = total = 0
    for images, labels in batches:
        with torch.no_grad():
            scores = model(images)
        guesses, truth = accelerator.gather_for_metrics((scores.argmax(dim=-1), labels))
        right += int((guesses == truth).sum())
        total += len(truth)
    model.train()
    return right / total


def main() -> None:
    parser = options(__doc__, batch_size=16)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--warmup-steps", type=int, default=5)
    parser.add_argument("--evaluate-every", type=int, default=20)
    parser.add_argument("--mixed-precision", default="no")
    args = parser.parse_args()
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=args.accumulation, mixed_precision=args.mixed_precision
    )
    set_seed(args.seed)
    training, validation = loaders(args.batch_size)
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    steps = args.epochs * -(-len(training) // args.accumulation)

    def rate(step: int) -> float:
        return min(1.0, step / args.warmup_steps) * max(0.0, 1 - step / steps)

    model, optimizer, training, validation, schedule = accelerator.prepare(
        model, optimizer, training, validation, LambdaLR(optimizer, rate)
    )

    done = 0
    for epoch in range(args.epochs):
        model.train()
        total_loss = torch.zeros(())
        for images, labels in training:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(images), labels)
                total_loss += loss.detach()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                done += 1
                if done % args.evaluate_every == 0:
                    accelerator.print(f"step {done} accuracy {evaluate(accelerator, model, validation):.3f}")
        accelerator.print(f"epoch {epoch} loss {total_loss.item() / len(training):.4f}")
    accelerator.print(f"accuracy {evaluate(accelerator, model, validation):.3f}")
    with tempfile.TemporaryDirectory() as output:
        accelerator.save_model(model, output)
    accelerator.end_training()


if __name__ == "__main__":
    main()
