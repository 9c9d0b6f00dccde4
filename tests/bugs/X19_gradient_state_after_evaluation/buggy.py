"""An evaluation within the epoch leaves its loader as the active one, at its end: accumulation is over from then on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ACCUMULATION = 4


def loaders():
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    training = DataLoader(TensorDataset(images[:1536], labels[:1536]), batch_size=16, shuffle=True)
    return training, DataLoader(TensorDataset(images[1536:], labels[1536:]), batch_size=64)


def evaluate(accelerator, model, validation):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for images, labels in validation:
            predictions = accelerator.gather_for_metrics(model(images).argmax(1))
            right += int((predictions == accelerator.gather_for_metrics(labels)).sum())
            total += len(predictions)
    # As before accelerate 0.17: the loader was not taken off the list of loaders in use when it ran out.
    accelerator.gradient_state._add_dataloader(validation)
    model.train()
    return right / total


def main():
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATION)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 48)
    training, validation = loaders()
    model, optimizer, schedule, training, validation = accelerator.prepare(
        model, optimizer, schedule, training, validation
    )
    for _ in range(2):
        for index, (images, labels) in enumerate(training):
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(images), labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if index == 47:
                print(f"accuracy {evaluate(accelerator, model, validation):.2f}")
    print(f"accuracy {evaluate(accelerator, model, validation):.2f}")


if __name__ == "__main__":
    main()
