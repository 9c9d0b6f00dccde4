"""A graph convolutional network of two layers on a generated graph of Cora's size, the whole graph a step, Adam."""

import torch
import torch.nn.functional as F
from timed import steps, timed
from torch import nn

NODES, EDGES, FEATURES, CLASSES = 2708, 5429, 1433, 7


class GraphConvolution(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adjacency):
        return torch.sparse.mm(adjacency, x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.gc1 = GraphConvolution(FEATURES, 16)
        self.gc2 = GraphConvolution(16, CLASSES)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, adjacency):
        return F.log_softmax(self.gc2(self.dropout(F.relu(self.gc1(x, adjacency))), adjacency), dim=1)


def graph():
    """Symmetric adjacency with self loops, each row a mean; a node's features tell its class."""
    ends = torch.randint(0, NODES, (2, EDGES))
    loops = torch.arange(NODES).repeat(2, 1)
    indices = torch.cat([ends, ends.flip(0), loops], dim=1)
    degree = torch.bincount(indices[0], minlength=NODES)
    adjacency = torch.sparse_coo_tensor(indices, 1.0 / degree[indices[0]], (NODES, NODES)).coalesce()
    labels = torch.randint(0, CLASSES, (NODES,))
    features = torch.rand(CLASSES, FEATURES)[labels] + 0.5 * torch.randn(NODES, FEATURES)
    return features, adjacency, labels


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features, adjacency, labels = graph()
    known = torch.randperm(NODES)[:1200]

    model = GCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    model.train()
    for _ in timed(range(steps())):
        optimizer.zero_grad()
        output = model(features, adjacency)
        F.nll_loss(output[known], labels[known]).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
