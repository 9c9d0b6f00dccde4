"""Two processes train one MLP (0.7 M parameters) with DistributedDataParallel over gloo: run it with torchrun."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timed import steps, timed
from torch import nn


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    samples = 128 * steps() * dist.get_world_size()
    targets = torch.randint(0, 10, (samples,))
    dataset = torch.utils.data.TensorDataset(torch.randn(10, 256)[targets] + torch.randn(samples, 256), targets)
    sampler = torch.utils.data.DistributedSampler(dataset)
    loader = torch.utils.data.DataLoader(dataset, batch_size=128, sampler=sampler)

    layers = [nn.Linear(256, 768), nn.ReLU(), nn.Linear(768, 640), nn.ReLU(), nn.Linear(640, 10)]
    model = nn.parallel.DistributedDataParallel(nn.Sequential(*layers))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    sampler.set_epoch(0)
    for data, target in timed(loader):
        optimizer.zero_grad()
        F.cross_entropy(model(data), target).backward()
        optimizer.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
