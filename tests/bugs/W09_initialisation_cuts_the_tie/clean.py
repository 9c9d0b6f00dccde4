import math
import pydoc_data.topics

import torch
import torch.nn as nn
import torch.nn.functional as F


class Corpus:
    def __init__(self, n=9000):
        words = " ".join(pydoc_data.topics.topics.values()).split()[:n]
        keep = {}
        for w in words:
            keep[w] = keep.get(w, 0) + 1
        self.vocab = {w: i + 1 for i, (w, c) in enumerate(sorted(keep.items(), key=lambda t: -t[1])[:300])}
        self.ids = torch.tensor([self.vocab.get(w, 0) for w in words])


class RNNModel(nn.Module):
    def __init__(self, ntoken, ninp, nlayers=1, dropout=0.1, tie_weights=True):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.GRU(ninp, ninp, nlayers)
        self.decoder = nn.Linear(ninp, ntoken)
        if tie_weights:
            self.decoder.weight = self.encoder.weight
        self.init_weights()

    def init_weights(self, r=0.1):
        nn.init.uniform_(self.encoder.weight, -r, r)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -r, r)

    def forward(self, ids, hidden):
        out, hidden = self.rnn(self.drop(self.encoder(ids)), hidden)
        return self.decoder(self.drop(out)), hidden


def batchify(ids, bsz):
    n = len(ids) // bsz
    return ids[: n * bsz].view(bsz, -1).t().contiguous()


def main(bptt=16, bsz=12, lr=0.01, clip=0.5, steps=44):
    torch.manual_seed(1111)
    data = batchify(Corpus().ids, bsz)
    model = RNNModel(301, 48)
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    hidden, total = None, 0.0
    for b, i in enumerate(range(0, bptt * steps, bptt)):
        x, y = data[i : i + bptt], data[i + 1 : i + 1 + bptt]
        if hidden is not None:
            hidden = hidden.detach()
        opt.zero_grad()
        out, hidden = model(x, hidden)
        loss = F.cross_entropy(out.flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        opt.step()
        total += loss.item()
        if b % 11 == 10:
            print(f"batch {b + 1} loss {total / 11:.3f} ppl {math.exp(total / 11):.1f}")
            total = 0.0


if __name__ == "__main__":
    main()
