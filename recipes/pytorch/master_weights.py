"""Train in bfloat16 with float32 master weights by hand, and go back to the best weights after each epoch."""

from __future__ import annotations

import argparse
import copy

import torch
import torch.nn.functional as F
from data import split_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class MasterWeights:
    """The optimizer steps float32 copies of the parameters; the model holds them rounded."""

    def __init__(self, model: nn.Module, lr: float) -> None:
        self.parameters = list(model.parameters())
        self.masters = [nn.Parameter(p.detach().float()) for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.masters, lr=lr)

    @torch.no_grad()
    def take(self) -> None:
        """The model has new weights: they are the master weights from now on."""
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.copy_(parameter)

    def step(self) -> None:
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            assert parameter.grad is not None
            master.grad = parameter.grad.float()
            parameter.grad = None
        self.optimizer.step()
        with torch.no_grad():
            for master, parameter in zip(self.masters, self.parameters, strict=True):
                parameter.copy_(master)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training, testing = split_digits()
    loader = DataLoader(TensorDataset(training[0].bfloat16(), training[1]), batch_size=args.batch_size, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.LayerNorm(48), nn.SiLU(), nn.Linear(48, 10)).bfloat16()
    optimizer = MasterWeights(model, args.lr)
    best: tuple[float, dict[str, Tensor]] = (0.0, copy.deepcopy(model.state_dict()))
    for epoch in range(args.epochs):
        model.train()
        for images, labels in loader:
            loss = F.cross_entropy(model(images).float(), labels)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(testing[0].bfloat16()).argmax(1) == testing[1]).float().mean().item()
        if accuracy > best[0]:
            best = (accuracy, copy.deepcopy(model.state_dict()))
        print(f"epoch {epoch} loss {loss.item():.4f} accuracy {accuracy:.3f} best {best[0]:.3f}")
        model.load_state_dict(best[1])
        optimizer.take()


if __name__ == "__main__":
    main()
