"""A graph convolution network on the neighbour graph of the digits: full batch, few labelled nodes."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from data import digits
from torch import Tensor, nn


class GraphConvolution(nn.Module):
    def __init__(self, features_in: int, features_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features_in, features_out))
        self.bias = nn.Parameter(torch.zeros(features_out))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return torch.sparse.mm(adjacency, x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.gc1 = GraphConvolution(features, hidden)
        self.gc2 = GraphConvolution(hidden, classes)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = F.relu(self.gc1(x, adjacency))
        x = F.dropout(x, 0.5, training=self.training)
        return F.log_softmax(self.gc2(x, adjacency), dim=1)


def neighbour_graph(features: Tensor, neighbours: int) -> Tensor:
    """Normalised adjacency with self-loops, ``D^-1/2 (A + I) D^-1/2``, sparse."""
    nearest = torch.cdist(features, features).topk(neighbours + 1, largest=False).indices
    adjacency = torch.zeros(len(features), len(features)).scatter_(1, nearest, 1.0)
    adjacency = torch.maximum(adjacency, adjacency.T)
    scale = adjacency.sum(1).rsqrt()
    return (scale[:, None] * adjacency * scale).to_sparse()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=900, help="number of nodes, all used in every step")
    parser.add_argument("--lr", type=float, default=0.02)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    images, labels = digits()
    features, labels = images[: args.batch_size].flatten(1), labels[: args.batch_size]
    adjacency = neighbour_graph(features, neighbours=5)
    train_mask = torch.zeros(len(labels), dtype=torch.bool)
    train_mask[:120] = True
    val_mask = ~train_mask

    model = GCN(features.shape[1], 16, 10)
    optimizer = torch.optim.Adam(
        [
            {"params": model.gc1.parameters(), "weight_decay": 5e-4},
            {"params": model.gc2.parameters(), "weight_decay": 0.0},
        ],
        lr=args.lr,
    )
    for epoch in range(args.epochs):
        model.train()
        optimizer.zero_grad()
        output = model(features, adjacency)
        loss = F.nll_loss(output[train_mask], labels[train_mask])
        loss.backward()
        optimizer.step()

        model.eval()
        with torch.no_grad():
            predicted = model(features, adjacency).argmax(1)
        accuracy = (predicted == labels)[val_mask].float().mean()
        if epoch % 10 == 9:
            print(f"epoch {epoch} loss {loss.item():.4f} validation accuracy {accuracy.item():.3f}")


if __name__ == "__main__":
    main()
