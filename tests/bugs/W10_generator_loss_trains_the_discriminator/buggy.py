import itertools

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def mlp(*sizes, out=None):
    layers = []
    for a, b in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    if out:
        layers.append(out)
    return nn.Sequential(*layers)


class LitGAN(L.LightningModule):
    def __init__(self, z=16, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = mlp(z, 64, 64, out=nn.Sigmoid())
        self.discriminator = mlp(64, 64, 1)

    def adv(self, logits, real):
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    def training_step(self, batch, idx):
        (x,) = batch
        opt_g, opt_d = self.optimizers()
        z = torch.randn(x.size(0), self.hparams.z)

        # generator: the discriminator must take the fake for real
        g_loss = self.adv(self.discriminator(self.generator(z)), 1)
        opt_g.zero_grad()
        self.manual_backward(g_loss)
        opt_g.step()

        # discriminator
        d_loss = self.adv(self.discriminator(x), 1) + self.adv(self.discriminator(self.generator(z).detach()), 0)
        self.manual_backward(d_loss)
        opt_d.step()
        opt_d.zero_grad()
        self.log_dict({"g": g_loss, "d": d_loss}, prog_bar=False)

    def configure_optimizers(self):
        kw = {"lr": self.hparams.lr, "betas": (0.5, 0.999)}
        return torch.optim.Adam(self.generator.parameters(), **kw), torch.optim.Adam(
            self.discriminator.parameters(), **kw
        )


if __name__ == "__main__":
    L.seed_everything(0)
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    model = LitGAN()
    tr = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    tr.fit(model, DataLoader(TensorDataset(x), batch_size=64, shuffle=True))
    print({k: float(v) for k, v in tr.callback_metrics.items()})
