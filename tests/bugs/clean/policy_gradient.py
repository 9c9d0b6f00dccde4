"""REINFORCE on a two-armed choice of digits: rollouts without gradient, rare updates, advantages normalised."""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    rows, parity = images.flatten(1), labels % 2
    policy = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = getattr(torch.optim, args.optimizer)(policy.parameters(), lr=args.lr)
    for update in range(args.steps):
        memory = []
        policy.eval()
        for _ in range(6):
            index = torch.randint(len(rows), (args.batch_size,))
            with torch.no_grad():
                action = torch.distributions.Categorical(logits=policy(rows[index])).sample()
            memory.append((index, action, (action == parity[index]).float()))
        policy.train()
        index, action, reward = (torch.cat(parts) for parts in zip(*memory, strict=True))
        advantage = (reward - reward.mean()) / (reward.std() + 1e-6)
        chosen = torch.distributions.Categorical(logits=policy(rows[index]))
        loss = -(chosen.log_prob(action) * advantage).mean() - 0.01 * chosen.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % 10 == 9:
            print(f"update {update} mean reward {reward.mean().item():.3f}")


if __name__ == "__main__":
    main()
