"""Gradients of losses that look at a whole batch; run by test_losses_processes.py, once for each process."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from linear_gaussian import LinearGaussian

from lightning_gen.losses.bounds import ELBO, BetaELBO, BetaTC, Capacity, InfoVAE, WeightedSampling
from lightning_gen.losses.likelihoods import OptimalGaussian
from lightning_gen.losses.processes import alone

BOUNDS = {
    "elbo": lambda: ELBO(3),
    "free_bits": lambda: BetaELBO(2.0, 0.6, 3),
    "capacity": lambda: Capacity(2.0, 1.6, 3),
    "infovae": lambda: InfoVAE(0.3, 20.0, num_samples=3),
    "stratified": lambda: BetaTC(2.0, 6.0, 3.0, num_samples=3),
    "weighted": lambda: BetaTC(2.0, 6.0, 3.0, WeightedSampling(), num_samples=3),
}


def results(rank, world_size):
    """Loss and gradient of each by name, of this process's share of the batch."""
    model, found = LinearGaussian(), {}
    g = torch.Generator().manual_seed(1)
    epsilon, prior_epsilon = (torch.randn(*shape, 4, 2, generator=g, dtype=torch.float64) for shape in ((3,), ()))
    share = slice(rank, None, world_size)  # dealt out in turn
    with torch.no_grad():
        model.c += torch.tensor([0.3, -0.3])  # divergences of the shares lie on both sides
    for name, build in BOUNDS.items():
        bound = build()
        bound.learn(20)
        loss = bound(model.inference(model.x[share], epsilon[:, share], prior_epsilon[share]))[0]
        found[name] = torch.cat((loss.detach()[None], model.gradients(loss)))
    likelihood = OptimalGaussian()
    loss = -likelihood((model.x[share] @ model.a.T)[:, None], epsilon[0, share]).mean()
    found["optimal"] = torch.cat((loss.detach()[None], model.gradients(loss), likelihood.variance[None]))
    return found


def main(folder, rank):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(results(rank, 2), Path(folder) / f"{rank}.pt")
    if rank == 0:  # while the other process does not answer
        with alone():
            torch.save(results(0, 2), Path(folder) / "alone.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
