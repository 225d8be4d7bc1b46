"""What every file of weights needs: an answer in time, and a reading that runs nothing."""

import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_gen.errors import UserError

ANSWER_SECONDS = 3.0
"""How long a server may take to answer, and then to send nothing; commands take as long again to start."""

T = TypeVar("T")


def within(seconds: float, function: Callable[[], T]) -> T:
    """The value of `function()`, or an OSError when it takes longer.

    Raises:
        TimeoutError: if there is no value after `seconds`.
        Exception: what `function` raised.
    """
    answers: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()

    def ask() -> None:
        try:
            answers.put((function(), None))
        except Exception as error:  # whatever it is, it is raised where the value is waited for
            answers.put((None, error))

    # in a thread, because looking up a host name ignores every timeout
    threading.Thread(target=ask, daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return value


def read_state(path: Path, owner: str) -> Mapping[str, Tensor]:
    """The state dict in a file, on the CPU, read without executing anything in it.

    Args:
        path: a `.safetensors` file, or one that `torch.save` wrote.
        owner: whose weights they are, for messages.

    Raises:
        UserError: if the file is not a state dict.
    """
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both raise many kinds
        raise UserError(f"{owner}: {path} cannot be read as a state dict ({type(error).__name__})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{owner}: {path} does not hold a state dict, which maps names to tensors")
    return state
