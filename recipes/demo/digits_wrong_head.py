"""A silent bug on real images: the head was replaced after the optimizer had been built.

A CNN that reads digits gets a new task, is this digit even or odd? Its head is exchanged for one with two outputs, but
the optimizer still holds the parameters of the old one. Nothing fails, and the loss falls, because the layers below
learn to feed a head that stays as random as it was initialised. The fix is to build the optimizer after the last change
to the model.
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class DigitsNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return self.head(self.features(images))


def fit(model, optimizer, images, labels, epochs):
    loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)
    step = 0
    for _ in range(epochs):
        for batch, target in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch), target)
            loss.backward()
            optimizer.step()
            if step % 20 == 0:
                print(f"  step {step:3d}  loss {loss.item():.3f}", flush=True)
            step += 1


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        correct = (model(images).argmax(dim=1) == labels).float().mean().item()
    model.train()
    return correct


def main():
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    is_odd = labels % 2
    training, testing = slice(0, 1400), slice(1400, None)

    model = DigitsNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    print("Task 1: which digit is it?")
    fit(model, optimizer, images[training], labels[training], epochs=3)
    print(f"  accuracy on new images {accuracy(model, images[testing], labels[testing]):.3f}")

    model.head = nn.Linear(64, 2)
    print("Task 2: is it even or odd?")
    fit(model, optimizer, images[training], is_odd[training], epochs=3)
    print(f"  accuracy on new images {accuracy(model, images[testing], is_odd[testing]):.3f}")


if __name__ == "__main__":
    main()
