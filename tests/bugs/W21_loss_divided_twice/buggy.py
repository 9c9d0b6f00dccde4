"""Digits with Accelerate and gradient accumulation."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    data, target = load_digits(return_X_y=True)
    images, labels = torch.tensor(data).float() / 16, torch.tensor(target)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size=16, shuffle=True)
    held_out = DataLoader(TensorDataset(images[1400:], labels[1400:]), batch_size=128)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    model, optimizer, loader, held_out = accelerator.prepare(model, optimizer, loader, held_out)
    for epoch in range(2):
        model.train()
        for step, (x, y) in enumerate(loader):
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(x), y)
                accelerator.backward(loss / accelerator.gradient_accumulation_steps)
                optimizer.step()
                optimizer.zero_grad()
            if step % 20 == 0:
                accelerator.print(f"{epoch}:{step} loss {loss.item():.4f}")
        model.eval()
        with torch.no_grad():
            hits = [accelerator.gather_for_metrics(model(x).argmax(1) == y).float() for x, y in held_out]
        accelerator.print(f"epoch {epoch} accuracy {torch.cat(hits).mean().item():.3f}")


if __name__ == "__main__":
    main()
