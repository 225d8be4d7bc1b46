"""Numbers of enough digits, and the precisions that are taken."""

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.precision import PRECISIONS, check_precision, exact, full


def test_full_never_takes_digits_away():
    wanted = {torch.bfloat16: torch.float32, torch.float16: torch.float32}
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        x = torch.ones(2, dtype=dtype)
        assert full(x).dtype == wanted.get(dtype, dtype)
        assert (full(x) is x) == (dtype not in wanted)


def test_exact_is_out_of_autocast_where_there_is_any():
    x = torch.rand(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with exact(x):
            assert (x @ x).dtype == torch.float32
    with exact(torch.empty(2, 2, device="meta")):  # tensors without data have none
        pass


def test_precisions_are_named_with_the_reason():
    for precision in PRECISIONS:
        check_precision(precision)
    with pytest.raises(UserError, match=r"bf16-true: .* weights of 16 bits have; use any of 32-true"):
        check_precision("bf16-true")
    with pytest.raises(UserError, match=r"16-mixed: gradients that are scaled .* use any of 32-true, 64-true"):
        check_precision("16-mixed", ["32-true", "64-true"])
    with pytest.raises(UserError, match=r"16-true: .* weights of 16 bits have; use any of 32-true, 64-true"):
        check_precision("16-true", ["32-true", "64-true"])
