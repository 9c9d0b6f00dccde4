"""A variational autoencoder of two prepared models: evaluated within an epoch, averaged, saved, and resumed there."""

from __future__ import annotations

import copy
import itertools
import tempfile

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader


def elbo(encoder, decoder, images):
    mean, log_variance = encoder(images).chunk(2, 1)
    code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
    reconstruction = F.binary_cross_entropy(decoder(code), images, reduction="sum") / len(images)
    return reconstruction - 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()


def main():
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    images = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
    decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid())
    optimizer = torch.optim.Adam(itertools.chain(encoder.parameters(), decoder.parameters()), 2e-3)
    training, validation = DataLoader(images[:1200], 64, shuffle=True), DataLoader(images[1200:], 128)
    encoder, decoder, optimizer, training, validation = accelerator.prepare(
        encoder, decoder, optimizer, training, validation
    )
    average = copy.deepcopy(accelerator.unwrap_model(decoder)).requires_grad_(False)

    def step(batch):
        loss = elbo(encoder, decoder, batch)
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(encoder.parameters(), 5.0)
        optimizer.step()
        with torch.no_grad():
            for mean, parameter in zip(average.parameters(), decoder.parameters(), strict=True):
                mean.lerp_(parameter, 0.1)

    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            encoder.train()
            decoder.train()
            for index, batch in enumerate(training):
                step(batch)
                if index % 7 == 6:
                    encoder.eval()
                    decoder.eval()
                    with torch.no_grad():
                        print(sum(elbo(encoder, decoder, batch).item() for batch in validation) / len(validation))
                    encoder.train()
                    decoder.train()
                if index == 13:
                    accelerator.save_state(folder)
        accelerator.load_state(folder)
        for batch in accelerator.skip_first_batches(training, 14):
            step(batch)
        accelerator.save_model(decoder, f"{folder}/final")


if __name__ == "__main__":
    main()
