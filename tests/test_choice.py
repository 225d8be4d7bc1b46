"""Drawing one of several from a number."""

import torch

from lightning_gen.choice import choose


def test_shares_are_the_probabilities_in_turn():
    p = torch.tensor([0.25, 0.0, 0.5, 0.25])
    u = torch.tensor([0.0, 0.2499, 0.2501, 0.5, 0.7499, 0.7501, 1 - 2.0**-24])
    found = choose(p.log().expand(len(u), 4), u)
    assert found.tolist() == [0, 0, 2, 2, 2, 3, 3]
    assert found.dtype == torch.int64


def test_nothing_is_chosen_that_cannot_be():
    p = torch.tensor([[0.0, 1.0, 0.0]])
    assert choose(p.log(), torch.zeros(1)).item() == 1


def test_entries_have_choices_of_their_own():
    logits, u = torch.randn(3, 5, 2, 4), torch.rand(3, 2, 4)
    found = choose(logits, u)
    for n, i, j in torch.cartesian_prod(*map(torch.arange, u.shape)).tolist():
        edges = logits[n, :, i, j].double().softmax(0).cumsum(0)
        assert found[n, i, j] == int(torch.searchsorted(edges, u[n, i, j].double(), right=True))
