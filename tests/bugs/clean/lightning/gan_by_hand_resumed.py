"""Two networks under manual optimisation, each with an optimizer and a schedule of its own; resumed for more epochs."""

from __future__ import annotations

import tempfile

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader


class Adversaries(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
        self.criterion = nn.BCEWithLogitsLoss()

    def training_step(self, images, batch_idx):
        of_generator, of_critic = self.optimizers()
        noise, real, fake = torch.randn(len(images), 8), torch.ones(len(images), 1), torch.zeros(len(images), 1)
        self.toggle_optimizer(of_generator)
        loss = self.criterion(self.critic(self.generator(noise)), real)
        of_generator.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(of_generator, 1.0, "norm")
        of_generator.step()
        self.untoggle_optimizer(of_generator)
        self.toggle_optimizer(of_critic)
        made = self.criterion(self.critic(self.generator(noise).detach()), fake)
        loss_of_critic = (self.criterion(self.critic(images), real) + made) / 2
        of_critic.zero_grad()
        self.manual_backward(loss_of_critic)
        of_critic.step()
        self.untoggle_optimizer(of_critic)
        self.log_dict({"generator": loss, "critic": loss_of_critic})

    def on_train_epoch_end(self):
        for schedule in self.lr_schedulers():
            schedule.step()

    def configure_optimizers(self):
        networks = (self.generator, self.critic)
        optimizers = [torch.optim.Adam(network.parameters(), 1e-3, betas=(0.5, 0.999)) for network in networks]
        return optimizers, [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9) for optimizer in optimizers]


def trainer(epochs):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", max_epochs=epochs, enable_checkpointing=False, **quiet)


def main():
    L.seed_everything(1)
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
    loader = DataLoader(images, 100, shuffle=True)
    with tempfile.TemporaryDirectory() as folder:
        first = trainer(1)
        first.fit(Adversaries(), loader)
        first.save_checkpoint(f"{folder}/first.ckpt")
        trainer(3).fit(Adversaries(), loader, ckpt_path=f"{folder}/first.ckpt")


if __name__ == "__main__":
    main()
