import pydoc_data.topics as T

import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader


class CharLSTM(nn.Module):
    def __init__(self, v, d=48):
        super().__init__()
        self.emb = nn.Embedding(v, d)
        self.rnn = nn.LSTM(d, d, num_layers=2, batch_first=True)
        self.out = nn.Linear(d, v)

    def forward(self, x):
        return self.out(self.rnn(self.emb(x))[0])


def chunks(n=40):
    text = "".join(T.topics.values())[:30000]
    vocab = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = torch.tensor([vocab[c] for c in text])
    return list(ids[: len(ids) // (n + 1) * (n + 1)].view(-1, n + 1)), len(vocab)


def evaluate(model, loader, accelerator):
    model.eval()
    tot = n = 0
    with torch.no_grad():
        for b in loader:
            loss = nn.functional.cross_entropy(model(b[:, :-1]).flatten(0, 1), b[:, 1:].flatten())
            tot += float(accelerator.gather(loss).mean())
            n += 1
    model.train()
    return tot / n


def main():
    set_seed(5)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    rows, v = chunks()
    train, val = DataLoader(rows[:640], 8, shuffle=True), DataLoader(rows[640:], 32)
    model = CharLSTM(v)
    opt = torch.optim.SGD(model.parameters(), lr=2.0)
    model, opt, train, val = accelerator.prepare(model, opt, train, val)
    for epoch in range(2):
        for batch in train:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 0.1)
                opt.step()
                opt.zero_grad()
        accelerator.print(epoch, round(loss.item(), 3), round(evaluate(model, val, accelerator), 3))


if __name__ == "__main__":
    main()
