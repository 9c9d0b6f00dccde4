"""Deep Q-learning on a small corridor: walk to the right end, with a target network that follows slowly."""

from __future__ import annotations

import argparse
import random
from collections import deque

import torch
import torch.nn.functional as F
from torch import nn

LENGTH = 8


class Corridor:
    def reset(self):
        self.position = 0
        return self.position

    def step(self, action):
        self.position = max(0, self.position + (1 if action == 1 else -1))
        done = self.position == LENGTH - 1
        return self.position, (1.0 if done else -0.02), done


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(LENGTH, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, positions):
        return self.net(F.one_hot(positions, LENGTH).float())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--optimizer", default="Adam", help="a class of torch.optim")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    online, target = QNetwork(), QNetwork()
    target.load_state_dict(online.state_dict())
    optimizer = getattr(torch.optim, args.optimizer)(online.parameters(), lr=args.lr)
    memory = deque(maxlen=2000)
    environment, state, updates = Corridor(), 0, 0
    environment.reset()

    while updates < args.steps:
        for _ in range(8):
            with torch.no_grad():
                greedy = online(torch.tensor([state])).argmax().item()
            action = random.randrange(2) if random.random() < 0.5 else greedy
            following, reward, done = environment.step(action)
            memory.append((state, action, reward, following, done))
            state = environment.reset() if done else following
        if len(memory) < 4 * args.batch_size:
            continue
        states, actions, rewards, followings, dones = map(
            torch.tensor, zip(*random.sample(memory, args.batch_size), strict=True)
        )
        with torch.no_grad():
            best_next = target(followings).max(1).values
        expected = rewards + 0.95 * best_next * ~dones
        value = online(states).gather(1, actions[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(value, expected)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        updates += 1
        with torch.no_grad():
            for follower, leader in zip(target.parameters(), online.parameters(), strict=True):
                follower.lerp_(leader, 0.05)
        if updates % 15 == 0:
            print(f"update {updates} loss {loss.item():.4f} replay memory {len(memory)}")


if __name__ == "__main__":
    main()
