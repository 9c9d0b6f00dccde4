"""A Wasserstein GAN with gradient penalty: five critic updates for each generator update, a second derivative."""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn


def gradient_penalty(critic, real, fake):
    mix = torch.rand(len(real), 1)
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.norm(dim=1) - 1).pow(2).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--optimizer", default="RMSprop", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels)
    rows = images.flatten(1)
    generator = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid())
    critic = nn.Sequential(nn.Linear(64, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1))
    optimizer_class = getattr(torch.optim, args.optimizer)
    optimizer_c = optimizer_class(critic.parameters(), lr=args.lr)
    optimizer_g = optimizer_class(generator.parameters(), lr=args.lr)
    for step in range(args.steps):
        real = rows[torch.randint(len(rows), (args.batch_size,))]
        fake = generator(torch.randn(args.batch_size, 12)).detach()
        loss_c = critic(fake).mean() - critic(real).mean() + 10 * gradient_penalty(critic, real, fake)
        optimizer_c.zero_grad()
        loss_c.backward()
        optimizer_c.step()
        if step % 5 == 4:
            for parameter in critic.parameters():
                parameter.requires_grad = False
            loss_g = -critic(generator(torch.randn(args.batch_size, 12))).mean()
            optimizer_g.zero_grad()
            loss_g.backward()
            optimizer_g.step()
            for parameter in critic.parameters():
                parameter.requires_grad = True
        if step % 20 == 19:
            print(f"step {step} critic {loss_c.item():.4f} generator {loss_g.item():.4f}")


if __name__ == "__main__":
    main()
