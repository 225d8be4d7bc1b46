"""Codebooks: moving averages against the paper's sums, k-means against scikit-learn, dead codes, and residuals."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from torch import nn

from lightning_gen.distributions.quantisers import (
    CosineVectorQuantiser,
    GradientVectorQuantiser,
    ResidualQuantiser,
    VectorQuantiser,
)
from lightning_gen.distributions.quantisers.codebook import CosineCodebook, EMACodebook
from lightning_gen.distributions.quantisers.kmeans import kmeans, nearest, spread


def random(*shape, seed=0, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, **options)


def codebook(num_codes=5, dim=3, decay=0.9, dead_after=None, kind=EMACodebook):
    torch.manual_seed(0)
    return kind(num_codes, dim, 0, decay, dead_after).double()


def test_nearest_is_the_nearest():
    v, e = random(50, 3), random(7, 3, seed=1)
    assert torch.equal(nearest(v, e), torch.cdist(v, e).argmin(1))


# -------------------------------------------------------------------- moving averages


def test_three_updates_are_those_of_the_paper():
    book = codebook()
    e, n, decay = book.vectors.numpy().copy(), np.ones(5), 0.9
    m = e.copy()
    for step in range(3):
        v = random(4, 6, 3, seed=step)
        flat = v.flatten(0, 1).numpy()
        codes = ((flat[:, None] - e[None]) ** 2).sum(2).argmin(1)
        z, found, counts = book(v)
        assert np.array_equal(found.flatten().numpy(), codes)
        np.testing.assert_allclose(z.flatten(0, 1).numpy(), e[codes])  # of before the update
        assert np.array_equal(counts.numpy(), np.bincount(codes, minlength=5))
        hot = np.eye(5)[codes]
        n = decay * n + (1 - decay) * hot.sum(0)
        m = decay * m + (1 - decay) * hot.T @ flat
        e = m / n[:, None]
        np.testing.assert_allclose(book.vectors.numpy(), e, rtol=1e-12)
        np.testing.assert_allclose(book.counts.numpy(), n, rtol=1e-12)


def test_codes_without_use_stay_where_they_are_for_ever():
    book = codebook(2, 1, decay=0.5).float()
    book.vectors.copy_(torch.tensor([[0.0], [100.0]]))
    for _ in range(300):  # 2⁻³⁰⁰ is 0 in float32
        book(torch.full((1, 4, 1), 1.0))
    assert book.counts[1] == 0
    assert book.vectors[1] == 100
    book(torch.full((1, 4, 1), 90.0))  # and are found again
    torch.testing.assert_close(book.vectors[1], torch.tensor([90.0]))


def test_cosine_codes_keep_unit_length_and_move_towards_their_vectors():
    book = codebook(3, 2, kind=CosineCodebook)
    torch.testing.assert_close(book.vectors.norm(dim=1), torch.ones(3, dtype=torch.float64))
    v = nn.functional.normalize(random(1, 40, 2), dim=-1)
    before = book.vectors.clone()
    _, codes, _ = book(v)
    assert torch.equal(codes[0], (v[0] @ before.T).argmax(1))
    torch.testing.assert_close(book.vectors.norm(dim=1), torch.ones(3, dtype=torch.float64))
    for k in codes.unique():
        mine = v[0, codes[0] == k]
        moved = 0.9 * before[k] + 0.1 * mine.sum(0)  # m, whose direction is all that counts
        torch.testing.assert_close(book.vectors[k], moved / moved.norm())


def test_cosine_forgets_lengths():
    quantiser = CosineVectorQuantiser(3, num_codes=4, dim=2, kmeans_iterations=0).eval()
    nn.init.zeros_(quantiser.project.bias)
    h = torch.randn(2, 3, 4, 4)
    assert torch.equal(quantiser(h).codes, quantiser(10 * h).codes)
    torch.testing.assert_close(quantiser(h).z.norm(dim=1), torch.ones(2, 4, 4))


# -------------------------------------------------------------------- dead codes


def test_dead_codes_move_to_vectors_of_the_batch_and_start_anew():
    book = codebook(6, 2, dead_after=3)
    book.vectors[2:] += 1000  # codes that nobody needs
    v = random(4, 5, 2, seed=3)
    for _ in range(2):
        book(v)
    assert (book.vectors[2:] > 900).all()
    assert book.idle.tolist() == [0, 0, 2, 2, 2, 2]
    book(v)
    flat = v.flatten(0, 1)
    assert all((row == flat).all(1).any() for row in book.vectors[2:])
    assert book.vectors[2:].unique(dim=0).shape[0] > 1
    assert book.counts[2:].tolist() == [1, 1, 1, 1]
    assert book.idle.tolist() == [0] * 6
    assert not any((row == flat).all(1).any() for row in book.vectors[:2])  # those in use follow their means
    moved = book.vectors.clone()
    book(v)
    assert (book.vectors - moved).abs().max() < 1


def test_codes_in_use_now_and_then_are_not_dead():
    book = codebook(2, 1, dead_after=3)
    book.vectors.copy_(torch.tensor([[0.0], [10.0]]))
    for step in range(12):
        book(torch.tensor([[[0.0], [10.0 if step % 3 == 2 else 0.0]]], dtype=torch.float64))
    assert book.vectors.flatten().tolist() == [0, 10]


def test_every_vector_of_the_batch_may_be_drawn():
    book = codebook(64, 1)
    v = torch.arange(12, dtype=torch.float64).view(3, 4, 1)
    drawn = torch.stack([book.candidates(v).flatten() for _ in range(30)]).long()
    counts = torch.bincount(drawn.flatten(), minlength=12)
    assert len(counts) == 12
    assert ((counts - 160).abs() < 5 * 160**0.5).all()
    assert not torch.equal(drawn[0], drawn[1])


def test_revival_brings_all_codes_into_use():
    torch.manual_seed(0)
    quantiser = VectorQuantiser(4, num_codes=32, dim=4, kmeans_iterations=0, dead_after=5)
    stuck = VectorQuantiser(4, num_codes=32, dim=4, kmeans_iterations=0, dead_after=None)
    stuck.load_state_dict(quantiser.state_dict())
    for q in (quantiser, stuck):
        q.codebook.vectors += 5
    for step in range(60):
        h = torch.randn(8, 4, 4, 4, generator=torch.Generator().manual_seed(step))
        terms = [q(h).terms["codebook_usage"] for q in (quantiser, stuck)]
    assert terms[0] > 0.75  # of 128 vectors for 32 codes
    assert terms[1] < 0.4


# -------------------------------------------------------------------- k-means


@pytest.mark.parametrize(("centers", "spread_of_one"), [(12, 0.3), (40, 2.0)])
def test_k_means_is_as_good_as_scikit_learn_s(centers, spread_of_one):
    x, _ = make_blobs(1500, 5, centers=centers, cluster_std=spread_of_one, random_state=0)
    v = torch.from_numpy(x)
    words = torch.randint(2**32, (12,), generator=torch.Generator().manual_seed(0))
    found = kmeans(v, spread(v, words), 20, lambda e: e)
    inertia = torch.cdist(v, found).amin(1).square().sum().item()
    assert inertia < 1.1 * KMeans(12, n_init=1, random_state=0).fit(x).inertia_
    assert torch.cdist(v, spread(v, words)).amin(1).square().sum() > inertia  # the start is not the end


def test_the_start_of_k_means_draws_by_squared_distance():
    v = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    words = torch.randint(2**32, (1500, 2), generator=torch.Generator().manual_seed(0))
    pairs = torch.stack([spread(v, pair).flatten() for pair in words])
    first = torch.tensor([(pairs[:, 0] == x).double().mean() for x in (0, 1, 3)])
    assert ((first - 1 / 3).abs() < 0.04).all()
    after_0 = pairs[pairs[:, 0] == 0, 1]
    assert (after_0 != 0).all()
    assert (after_0 == 3).double().mean().item() == pytest.approx(0.9, abs=0.04)  # 9 to 1


def test_as_few_different_vectors_as_one_are_no_trouble():
    v = torch.ones(9, 2)
    found = kmeans(v, spread(v, torch.arange(4) * 10**9), 3, lambda e: e)
    assert torch.equal(found, torch.ones(4, 2))


def test_a_codebook_starts_with_k_means_of_the_first_batch_alone():
    torch.manual_seed(0)
    quantiser = VectorQuantiser(2, num_codes=4, dim=2, decay=0.999, kmeans_iterations=5)
    nn.init.dirac_(quantiser.project.weight)
    nn.init.zeros_(quantiser.project.bias)
    corners = torch.tensor([[9.0, 9.0], [9.0, -9.0], [-9.0, 9.0], [-9.0, -9.0]])
    h = (corners.repeat(16, 1) + 0.1 * torch.randn(64, 2)).view(16, 4, 2).transpose(1, 2).unflatten(2, (2, 2))
    quantiser.eval()(h)
    assert quantiser.codebook.started == 0
    made = quantiser.train()(h)
    assert quantiser.codebook.started == 1
    assert made.terms["codebook_usage"] == 1
    assert made.loss < 0.25 * 0.02
    assert torch.cdist(quantiser.codebook.vectors, corners).amin(1).max() < 0.2
    assert torch.cdist(corners, quantiser.codebook.vectors).amin(1).max() < 0.2
    before = quantiser.codebook.vectors.clone()
    quantiser(-h * 3)
    assert (quantiser.codebook.vectors - before).abs().max() < 2


def test_a_run_that_has_not_started_starts_after_it_was_loaded():
    torch.manual_seed(0)
    quantiser = VectorQuantiser(2, num_codes=4, dim=2)
    other = VectorQuantiser(2, num_codes=4, dim=2)
    h = torch.randn(4, 2, 4, 4)
    quantiser(h)
    quantiser.load_state_dict(other.state_dict())
    quantiser(h)
    other(h)
    assert torch.equal(quantiser.codebook.vectors, other.codebook.vectors)


# -------------------------------------------------------------------- losses


def test_commitment_is_a_mean_and_moves_features_alone():
    quantiser = VectorQuantiser(3, num_codes=4, dim=2, commitment=0.5, kmeans_iterations=0).eval()
    h = torch.randn(2, 3, 4, 4, requires_grad=True)
    made = quantiser(h)
    expected = 0.5 * (quantiser.project(h) - made.z.detach()).square().mean()
    torch.testing.assert_close(made.loss, expected)
    torch.testing.assert_close(torch.autograd.grad(made.loss, h), torch.autograd.grad(expected, h))
    assert not any("vectors" in name for name, _ in quantiser.named_parameters())


def test_the_codebook_loss_moves_codes_to_the_means_of_their_features():
    quantiser = GradientVectorQuantiser(3, num_codes=4, dim=2, commitment=0.25)
    h = torch.randn(2, 3, 4, 4)
    made, v = quantiser(h), quantiser.project(h)
    distance = (v - made.z).square().mean()
    torch.testing.assert_close(made.loss, 1.25 * distance)
    made.loss.backward()
    rows, codes = v.detach().movedim(1, -1).reshape(-1, 2), made.codes.flatten()
    for k in range(4):
        mine = rows[codes == k]
        expected = 2 * (len(mine) * quantiser.codebook.vectors[k] - mine.sum(0)) / rows.numel()
        torch.testing.assert_close(quantiser.codebook.vectors.grad[k], expected)
    commitment = torch.autograd.grad(
        0.25 * (quantiser.project(h) - made.z.detach()).square().mean(), quantiser.project.bias
    )
    torch.testing.assert_close(quantiser.project.bias.grad, commitment[0])


def test_the_decoder_s_gradient_does_not_move_the_codebook():
    quantiser = GradientVectorQuantiser(3, num_codes=4, dim=2)
    quantiser(torch.randn(2, 3, 4, 4)).z.sum().backward()
    assert quantiser.codebook.vectors.grad is None
    assert quantiser.project.weight.grad.abs().sum() > 0


def test_residuals_shrink_level_by_level_and_their_codes_are_the_nearest():
    torch.manual_seed(0)
    quantiser = ResidualQuantiser(4, num_codes=16, dim=4, num_levels=3, commitment=1.0)
    h = torch.randn(16, 4, 4, 4)
    for _ in range(10):
        quantiser(h)
    made = quantiser.eval()(h)
    v = quantiser.project(h).flatten(2).transpose(1, 2)
    residual, errors = v, []
    for book, codes in zip(quantiser.codebooks, made.codes.flatten(2).unbind(1), strict=True):
        assert torch.equal(torch.cdist(residual, book.vectors).argmin(-1), codes)
        residual = residual - book.vectors[codes]
        errors.append(residual.square().mean())
    assert errors[2] < 0.6 * errors[1] < 0.36 * errors[0]
    torch.testing.assert_close(made.loss, sum(errors))
    torch.testing.assert_close(made.z.flatten(2).transpose(1, 2), v - residual)


def test_one_level_of_residuals_is_vector_quantisation():
    torch.manual_seed(0)
    one = ResidualQuantiser(4, num_codes=8, dim=3, num_levels=1)
    plain = VectorQuantiser(4, num_codes=8, dim=3)
    plain.project.load_state_dict(one.project.state_dict())
    plain.codebook.load_state_dict(one.codebooks[0].state_dict())
    for seed in range(3):
        h = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
        a, b = one(h), plain(h)
        assert torch.equal(a.z, b.z)
        assert torch.equal(a.codes, b.codes)
        torch.testing.assert_close(a.loss, b.loss)
        assert a.terms == b.terms
