"""What the tests of held-out metrics run in two processes, which import it by name."""

import json
import warnings

import pytest
import torch
import torch.distributed as dist
from held_out_fakes import Data, Encoding, linear_vae, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import (
    DCI,
    FID,
    ActiveUnits,
    EvidenceLowerBound,
    MutualInformationGap,
    NegativeLogLikelihood,
    Raw,
    ReconstructionError,
    measure_held_out,
)
from lightning_gen.metrics.held_out import HeldOutSet

FACTORS = torch.cartesian_prod(torch.arange(3), torch.arange(2)).repeat(35, 1)[:203]


def run(rank, world_size, folder):
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".*biased upwards.*")
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    data = Data(vectors(203), factors=FACTORS)
    metrics = [NegativeLogLikelihood(3), EvidenceLowerBound(), ActiveUnits(), ReconstructionError()]
    metrics += [MutualInformationGap(), DCI(2)]
    shares = {"rank": rank, "world_size": world_size}
    options = {"batch_size": 20 + 7 * rank, "seed": 2} | shares
    rows = HeldOutSet(metrics, [FID(Raw(3))], None, None)
    rows.prepare(data, device=torch.device("cpu"), cache_dir=folder / f"cache{world_size}", batch_size=50, **shares)
    values = rows.measure(linear_vae(1.5), data, **options)
    few = Data(vectors(1))  # the second process has none
    values |= {
        f"few {k}": v for k, v in HeldOutSet(metrics[:4], [], None, None).measure(linear_vae(), few, **options).items()
    }
    if world_size > 1:

        def broken(x):
            if rank == 1:
                raise UserError("broken")
            return x

        with pytest.raises(UserError, match="broken" if rank == 1 else "another process failed"):
            measure_held_out(Encoding(broken), data, [ActiveUnits()], split="test", **options)
    (folder / f"{world_size}-{rank}.json").write_text(json.dumps(values))


def worker(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    run(rank, 2, folder)
    dist.barrier()
    dist.destroy_process_group()
