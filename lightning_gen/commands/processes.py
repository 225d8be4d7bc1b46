"""Processes for commands that need no trainer."""

import torch
from lightning.fabric import Fabric


def start(accelerator: str, devices: int | str, num_nodes: int) -> Fabric:
    """Start the processes of a command: one a device, by this program, SLURM or torchrun.

    Args:
        accelerator: as Lightning names them.
        devices: how many, or which.
        num_nodes: number of machines.

    Returns:
        A launched fabric: device, rank, number of processes, barrier.
    """
    torch.set_float32_matmul_precision("highest")
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes)
    fabric.launch()
    return fabric
