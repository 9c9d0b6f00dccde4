import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD, CLS = 0, 1


class SentimentEncoder(nn.Module):
    def __init__(self, vocab=40, dim=32, heads=4, layers=2, maxlen=24):
        super().__init__()
        self.emb = nn.Embedding(vocab, dim, padding_idx=PAD)
        self.pos = nn.Parameter(torch.randn(maxlen, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, heads, 64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.fc = nn.Linear(dim, 2)

    def forward(self, ids):
        mask = ids == PAD
        h = self.emb(ids) + self.pos[: ids.shape[1]]
        h = self.encoder(h, src_key_padding_mask=mask)
        keep = (ids != PAD).unsqueeze(-1)
        return self.fc((h * keep).sum(1) / keep.sum(1))


def make_review(rng):
    n = rng.randint(5, 18)
    label = rng.randint(0, 1)
    pool = range(2, 22) if label else range(18, 38)
    words = [rng.choice(pool) if rng.random() < 0.6 else rng.randrange(2, 40) for _ in range(n)]
    return [CLS, *words], label


def collate(rows):
    # one extra pad column keeps the width even for the kernels
    ids = pad_sequence([torch.tensor([*r, PAD]) for r, _ in rows], batch_first=True, padding_value=PAD)
    return ids, torch.tensor([label for _, label in rows])


def evaluate(model, dl):
    model.eval()
    good = total = 0
    with torch.no_grad():
        for ids, y in dl:
            good += (model(ids).argmax(-1) == y).sum().item()
            total += len(y)
    model.train()
    return good / total


if __name__ == "__main__":
    torch.manual_seed(0)
    rng = random.Random(0)
    rows = [make_review(rng) for _ in range(1000)]
    train_dl = DataLoader(rows[:800], batch_size=40, shuffle=True, collate_fn=collate)
    val_dl = DataLoader(rows[800:], batch_size=100, collate_fn=collate)
    model = SentimentEncoder()
    optim = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(2):
        losses = []
        for ids, y in train_dl:
            loss = nn.functional.cross_entropy(model(ids), y)
            optim.zero_grad()
            loss.backward()
            optim.step()
            losses.append(loss.item())
        print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f} val acc {evaluate(model, val_dl):.3f}")
