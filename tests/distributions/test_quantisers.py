"""What every quantiser keeps: shapes, exact lookups, gradients past the rounding, precision, rest in evaluation."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from lightning_gen.distributions.quantisers import (
    CosineVectorQuantiser,
    FiniteScalarQuantiser,
    GradientVectorQuantiser,
    GumbelQuantiser,
    LookupFreeQuantiser,
    ResidualQuantiser,
    VectorQuantiser,
    usage,
)
from lightning_gen.errors import UserError

F, K, D = 6, 8, 4
MAKERS = {
    "vector": partial(VectorQuantiser, num_codes=K, dim=D, dead_after=2),
    "vector_random_start": partial(VectorQuantiser, num_codes=K, dim=D, kmeans_iterations=0, dead_after=None),
    "cosine": partial(CosineVectorQuantiser, num_codes=K, dim=D),
    "gradient": partial(GradientVectorQuantiser, num_codes=K, dim=D, kmeans_iterations=5),
    "residual": partial(ResidualQuantiser, num_codes=K, dim=D, num_levels=3),
    "finite_scalar": partial(FiniteScalarQuantiser, levels=(4, 3)),
    "lookup_free": partial(LookupFreeQuantiser, num_bits=3),
    "gumbel": partial(GumbelQuantiser, num_codes=K, dim=D),
}


@pytest.fixture(params=MAKERS)
def quantiser(request):
    torch.manual_seed(0)
    return MAKERS[request.param](F)


@pytest.fixture
def h():
    return torch.randn(4, F, 3, 5, generator=torch.Generator().manual_seed(1)) * 2


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_shapes_and_ranges(quantiser, h):
    for training in (True, False):
        made = quantiser.train(training)(h)
        assert made.z.shape == (4, quantiser.latent_dim, 3, 5)
        assert made.codes.shape == (4, quantiser.num_levels, 3, 5)
        assert made.codes.dtype == torch.int64
        assert made.codes.min() >= 0
        assert made.codes.max() < quantiser.num_codes
        assert made.loss.shape == ()
        assert 1 <= made.terms["codebook_perplexity"] <= quantiser.num_codes
        assert 0 < made.terms["codebook_usage"] <= 1


def test_lookup_is_what_forward_gives_bit_for_bit(quantiser, h):
    quantiser(h)  # starts
    made = quantiser.eval()(h)
    assert torch.equal(quantiser.lookup(made.codes), made.z)
    assert made.codes.unique().numel() > 1


def test_evaluation_changes_nothing(quantiser, h):
    before = state(quantiser)
    first = quantiser.eval()(h)
    assert same(state(quantiser), before)
    assert torch.equal(quantiser(h).z, first.z)


def test_a_position_has_the_code_it_has_alone(quantiser, h):
    quantiser(h)
    made = quantiser.eval()(h)
    alone = quantiser(h[2:3, :, 1:2, 3:4])
    assert torch.equal(made.codes[2:3, :, 1:2, 3:4], alone.codes)
    torch.testing.assert_close(made.z[2:3, :, 1:2, 3:4], alone.z)


def test_terms_are_those_of_the_codes(quantiser, h):
    quantiser(h)
    made = quantiser.eval()(h)
    perplexity, usage = [], []
    for level in made.codes.unbind(1):
        counts = torch.bincount(level.flatten(), minlength=quantiser.num_codes).double()
        perplexity.append(torch.distributions.Categorical(counts / counts.sum()).entropy().exp())
        usage.append((counts > 0).double().mean())
    assert made.terms["codebook_perplexity"].item() == pytest.approx(torch.stack(perplexity).mean().item(), rel=1e-5)
    assert made.terms["codebook_usage"].item() == pytest.approx(torch.stack(usage).mean().item())


def test_codes_are_counted_for_the_log_where_it_is_asked_for(quantiser, h, monkeypatch):
    quantiser(h)  # starts
    summed = []
    monkeypatch.setattr(usage, "summed", lambda x: summed.append(x) or x)
    quantiser.counting = False
    made = quantiser(h)
    assert not summed
    learns_from_counts = isinstance(quantiser, VectorQuantiser | ResidualQuantiser)
    assert ("codebook_usage" in made.terms) == learns_from_counts
    quantiser.counting = True
    assert "codebook_usage" in quantiser(h).terms
    assert bool(summed) != learns_from_counts


def test_the_loss_does_not_grow_with_the_batch_or_the_map(quantiser, h):
    quantiser(h)
    quantiser.eval()
    loss = quantiser(h).loss
    torch.testing.assert_close(quantiser(torch.cat((h, h, h))).loss, loss)
    torch.testing.assert_close(quantiser(torch.cat((h, h), dim=3)).loss, loss)


def test_the_decoder_s_gradient_goes_past_the_rounding(quantiser, h):
    quantiser(h)
    quantiser.eval()
    h.requires_grad_()
    made = quantiser(h)
    weights = torch.randn_like(made.z)
    if isinstance(quantiser, GumbelQuantiser):  # it has its own gradient, in training
        quantiser.train()
        (quantiser(h).z * weights).sum().backward()
        assert h.grad.abs().amax(dim=(2, 3)).min() > 0
        return
    (found,) = torch.autograd.grad((made.z * weights).sum(), h)
    v = quantiser.project(h)
    if isinstance(quantiser, CosineVectorQuantiser):
        v = nn.functional.normalize(v, dim=1)
    if isinstance(quantiser, FiniteScalarQuantiser):
        v = quantiser.bound(v.movedim(1, -1)) / torch.tensor([2, 1])
        v = v.movedim(-1, 1)
    (expected,) = torch.autograd.grad((v * weights).sum(), h)
    torch.testing.assert_close(found, expected)


def test_bfloat16_does_not_confuse_codes(quantiser, h):
    quantiser(h)
    nn.init.dirac_(quantiser.project.weight)  # the convolution itself is exact then
    nn.init.zeros_(quantiser.project.bias)
    h = h.bfloat16().float()
    exact = quantiser.eval()(h)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = quantiser(h)
    assert torch.equal(rounded.codes, exact.codes)
    assert torch.equal(rounded.z, exact.z)
    assert rounded.loss.dtype == torch.float32
    torch.testing.assert_close(rounded.loss, exact.loss)
    with torch.autocast("cpu", torch.bfloat16):
        quantiser.train()(h)
    assert all(t.isfinite().all() and t.dtype != torch.bfloat16 for t in quantiser.state_dict().values())


def test_float64(quantiser, h):
    made = quantiser.double()(h.double())
    assert made.z.dtype == made.loss.dtype == torch.float64


def test_state_makes_a_round_trip_and_a_copy_goes_on_alike(quantiser, h, request):
    for _ in range(3):
        quantiser(h)
    torch.manual_seed(5)
    other = MAKERS[request.node.callspec.params["quantiser"]](F)
    other.load_state_dict(quantiser.state_dict())
    twin = copy.deepcopy(quantiser)
    for _ in range(3):  # not started anew, and with the same random choices
        for q in (quantiser, other, twin):
            torch.manual_seed(7)
            q(h * 0.5)
    assert same(state(quantiser), state(other))
    assert same(state(quantiser), state(twin))


def test_no_step_waits_for_the_host(quantiser, h):
    # tensors without data stand for those of a device: whatever reads them fails
    quantiser.to("meta")
    for _ in range(2):  # the start, and an update
        made = quantiser(torch.empty(4, F, 3, 5, device="meta", requires_grad=True))
        (made.z.sum() + made.loss).backward()


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (partial(VectorQuantiser, num_codes=0), "VectorQuantiser.num_codes is 0"),
        (partial(VectorQuantiser, dim=0), "VectorQuantiser.dim is 0"),
        (partial(VectorQuantiser, decay=1.0), "VectorQuantiser.decay is 1"),
        (partial(VectorQuantiser, dead_after=0), "VectorQuantiser.dead_after is 0"),
        (partial(CosineVectorQuantiser, commitment=-1.0), "CosineVectorQuantiser.commitment is -1"),
        (partial(GradientVectorQuantiser, kmeans_iterations=-1), "GradientVectorQuantiser.kmeans_iterations is -1"),
        (partial(ResidualQuantiser, num_levels=0), "ResidualQuantiser.num_levels is 0"),
        (partial(FiniteScalarQuantiser, levels=(5, 2)), r"levels is \[5, 2\].*LookupFree"),
        (partial(FiniteScalarQuantiser, levels=()), "levels"),
        (partial(LookupFreeQuantiser, num_bits=21), "num_bits is 21: it must be at most 20"),
        (partial(FiniteScalarQuantiser, levels=(8,) * 7), "which makes 2097152 codes: it must make 1048576 at most"),
        (partial(LookupFreeQuantiser, temperature=0.0), "temperature is 0"),
        (partial(GumbelQuantiser, temperature=0.0), "GumbelQuantiser.temperature is 0"),
        (partial(GumbelQuantiser, kl_weight=-1.0), "kl_weight is -1"),
    ],
)
def test_arguments_out_of_range_are_refused(make, word):
    with pytest.raises(UserError, match=word):
        make(F)


@pytest.mark.parametrize("name", ["vector", "cosine", "gradient", "residual"])
def test_k_means_needs_as_many_vectors_as_codes(name, h):
    quantiser = MAKERS[name](F)
    with pytest.raises(UserError, match=r"Quantiser.num_codes is 8, but the first batch .* only 7 vectors.*batch_size"):
        quantiser.check(7)
    quantiser.check(8)
    with pytest.raises(UserError, match="only 6 vectors"):
        quantiser(h[:1, :, :2, :3])
    MAKERS["vector_random_start"](F).check(1)
    quantiser(h)
    quantiser.check(1)  # it has started


def test_perplexity_of_even_and_of_single_codes():
    quantiser = FiniteScalarQuantiser(1, (3,))
    nn.init.dirac_(quantiser.project.weight)
    nn.init.zeros_(quantiser.project.bias)
    even = quantiser(torch.tensor([-5.0, 0.0, 5.0]).view(3, 1, 1, 1)).terms
    single = quantiser(torch.full((3, 1, 2, 2), 5.0)).terms
    assert even["codebook_perplexity"].item() == pytest.approx(3)
    assert even["codebook_usage"] == 1
    assert single["codebook_perplexity"].item() == pytest.approx(1)
    assert math.isclose(single["codebook_usage"].item(), 1 / 3, rel_tol=1e-6)
