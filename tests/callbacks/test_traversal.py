"""Pictures of what each latent does."""

from functools import partial

import pytest
import torch
from PIL import Image

from lightning_gen.callbacks import LatentTraversal
from lightning_gen.callbacks.traversal import traversal
from lightning_gen.data import Digits
from lightning_gen.distributions import (
    StraightThroughCategorical,
    UniformCategorical,
    UniformSphere,
    VonMisesFisher,
)
from lightning_gen.errors import UserError
from lightning_gen.families import VAE, LadderVAE
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder


class Shown(VAE):
    """Samples are their latents, of which the first varies least."""

    def latents_of(self, x, y):
        return x * torch.tensor([0.1, 1.0])

    def samples_of(self, z, y):
        return z


def vae(cls=VAE, shape=2, num_classes=None, **layers):
    torch.manual_seed(0)
    decoder = partial(MLPDecoder, sample_dim=shape, width=8, depth=1, num_classes=num_classes)
    return cls(MLPEncoder(shape, 8, 1), decoder, 2, Gaussian(), partial(torch.optim.Adam, lr=0.01), **layers)


def test_one_latent_varies_a_row(make_ring):
    data = make_ring()
    made = traversal(vae(Shown), data, "val", sample=3, num_rows=10, steps=5, limit=2.0).unflatten(0, (2, 5))
    z = data.split("val")[torch.tensor([3])]["x"][0] * torch.tensor([0.1, 1.0])
    first, second = made
    assert torch.allclose(first[:, 1], torch.tensor([-2.0, -1, 0, 1, 2]))  # the one that varies most
    assert torch.equal(first[:, 0], z[:1].expand(5))
    assert torch.allclose(second[:, 0], torch.tensor([-2.0, -1, 0, 1, 2]))
    assert torch.equal(second[:, 1], z[1:].expand(5))
    assert len(traversal(vae(Shown), data, "val", 0, num_rows=1, steps=3, limit=1.0)) == 3


def test_quantiles_of_the_encodings(make_ring):
    data = make_ring(num_val=600)
    x = data.split("val")[torch.arange(256)]["x"]
    made = traversal(vae(Shown), data, "val", 0, num_rows=1, steps=2, limit=None)
    assert made[:, 1].tolist() == pytest.approx(x[:, 1].quantile(torch.tensor([0.01, 0.99])).tolist(), rel=1e-5)


def test_the_class_of_the_sample_stays(make_ring):
    data, model = make_ring(), vae(num_classes=8)
    made = traversal(model, data, "val", 2, num_rows=2, steps=3, limit=1.0)
    batch = data.split("val")[torch.tensor([2])]
    z = model.encode(batch["x"], batch["y"]).repeat(6, 1)
    order = model.encode(*data.split("val")[torch.arange(16)].values()).var(dim=0).argsort(descending=True)
    for row in range(2):
        z[3 * row : 3 * row + 3, order[row]] = torch.tensor([-1.0, 0, 1])
    assert torch.allclose(made, model.decode(z, batch["y"].repeat(6)), atol=1e-6)


def ladder():
    torch.manual_seed(0)
    decoder = partial(MLPDecoder, sample_dim=2, width=8, depth=1)
    return LadderVAE(MLPEncoder(2, 8, 1), decoder, [3, 2], Gaussian(), partial(torch.optim.Adam, lr=0.01), width=4)


def test_of_a_ladder_only_what_the_decoder_sees_is_varied(make_ring):
    model, data = ladder(), make_ring()
    assert (model.latent_dim, model.varied_dim) == (5, 3)
    assert model.encode(data.split("val")[torch.arange(4)]["x"]).shape == (4, 5)
    made = traversal(model, data, "val", 0, num_rows=10, steps=4, limit=2.0).unflatten(0, (-1, 4))
    assert len(made) == 3
    assert (made.var(dim=1).sum(dim=1) > 1e-6).all()  # no row stands still


@pytest.mark.parametrize(
    ("posterior", "prior", "dim"),
    [(StraightThroughCategorical, UniformCategorical, 20), (VonMisesFisher, UniformSphere, 2)],
)
def test_latents_that_do_not_vary_alone_are_refused(posterior, prior, dim, make_ring, make_trainer):
    model = vae(posterior=posterior, prior=prior)
    assert model.encode(make_ring().split("val")[torch.arange(4)]["x"]).shape == (4, dim)
    assert (model.latent_dim, model.varied_dim) == (dim, 0)
    with pytest.raises(UserError, match="latents of this VAE are one-hot vectors or points on a sphere"):
        make_trainer(LatentTraversal(), max_steps=1).fit(model, make_ring())


def test_pictures_are_written_at_validations(make_trainer, tmp_path):
    callback = LatentTraversal(num_rows=4, steps=5)
    trainer = make_trainer(callback, max_steps=2, val_check_interval=1, limit_val_batches=1)
    trainer.fit(vae(shape=[1, 8, 8]), Digits(image_size=8, batch_size=8))
    written = sorted(tmp_path.rglob("traversals/*.png"))
    assert [path.name for path in written] == ["step=000001.png", "step=000002.png"]
    with Image.open(written[0]) as picture:
        assert picture.size == (2 + 5 * 10, 2 + 2 * 10)  # there are two latents


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_rows": 0}, "num_rows is 0"),
        ({"steps": 1}, "steps is 1"),
        ({"sample": -1}, "sample is -1"),
        ({"limit": 0.0}, "limit is 0"),
        ({"sample": 16}, r"sample is 16, but split 'val' has 16 samples"),
        ({"split": "tset"}, "LatentTraversal.split is 'tset'"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(options, words, make_ring, make_trainer):
    with pytest.raises(UserError, match=words):
        make_trainer(LatentTraversal(**options), max_steps=1).fit(vae(), make_ring())


def test_models_without_vector_latents_are_refused(make_gan, make_ring, make_trainer):
    with pytest.raises(UserError, match="LatentTraversal needs a model that can encode samples as vectors, which GAN"):
        make_trainer(LatentTraversal(), max_steps=1).fit(make_gan(), make_ring())
