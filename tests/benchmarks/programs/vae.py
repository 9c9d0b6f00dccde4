"""The variational autoencoder of PyTorch's examples (0.65 M parameters) on generated 28x28 images, batch 128, Adam."""

import torch
import torch.nn.functional as F
from timed import steps, timed
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc21 = nn.Linear(400, 20)
        self.fc22 = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 784))
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    reconstruction = F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction="sum")
    return reconstruction - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kinds = torch.randint(0, 10, (128 * steps(),))
    images = (torch.rand(10, 1, 28, 28)[kinds] + 0.1 * torch.randn(128 * steps(), 1, 28, 28)).clamp(0, 1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=128, shuffle=True)

    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for (data,) in timed(loader):
        optimizer.zero_grad()
        recon, mu, logvar = model(data)
        loss_function(recon, data, mu, logvar).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
