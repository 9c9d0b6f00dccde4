import pydoc_data.topics

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class CharWindows(Dataset):
    def __init__(self, text, width, vocab):
        self.ids = torch.tensor([vocab[c] for c in text])
        self.width = width

    def __len__(self):
        return (len(self.ids) - 1) // self.width

    def __getitem__(self, i):
        s = i * self.width
        return self.ids[s : s + self.width], self.ids[s + 1 : s + self.width + 1]


class CharGRU(nn.Module):
    def __init__(self, n, dim=32):
        super().__init__()
        self.embed = nn.Embedding(n, dim)
        self.gru = nn.GRU(dim, 64, batch_first=True)
        self.out = nn.Linear(64, n)

    def forward(self, ids):
        h, _ = self.gru(self.embed(ids))
        return self.out(h)


def pretrain_embedding(model, ids, steps=10):
    """A short skip-gram-like warm start of the embedding, before the real run."""
    table = torch.optim.SGD(model.embed.parameters(), lr=0.5)
    for _s in range(steps):
        i = torch.randint(1, len(ids) - 1, (256,))
        score = (model.embed(ids[i]) * model.embed(ids[i + 1])).sum(-1)
        noise = (model.embed(ids[i]) * model.embed(ids[torch.randint(len(ids), (256,))])).sum(-1)
        loss = -(F.logsigmoid(score) + F.logsigmoid(-noise)).mean()
        table.zero_grad()
        loss.backward()
        table.step()


def train(epochs=1):
    torch.manual_seed(3)
    text = "".join(pydoc_data.topics.topics.values())[:26000]
    vocab = {c: i for i, c in enumerate(sorted(set(text)))}
    data = CharWindows(text, 32, vocab)
    loader = DataLoader(data, batch_size=16, shuffle=True, drop_last=True)
    model = CharGRU(len(vocab))
    pretrain_embedding(model, data.ids)
    # keep the pretrained vectors fixed
    model.embed.requires_grad = False
    opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=4e-3)
    for ep in range(epochs):
        for it, (a, b) in enumerate(loader):
            logits = model(a)
            loss = F.cross_entropy(logits.flatten(0, 1), b.flatten())
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            if it % 10 == 0:
                print(f"{ep}:{it} nll {loss.item():.3f}")
    torch.save({"model": model.state_dict(), "vocab": vocab}, "chargru.pt")


train()
