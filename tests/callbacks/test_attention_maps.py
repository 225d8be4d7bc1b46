"""Pictures of attention."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.callbacks import AttentionMaps
from lightning_gen.callbacks.attention_maps import attention_layers, draw_attention
from lightning_gen.data import Digits, Ring2D
from lightning_gen.errors import UserError
from lightning_gen.families import VAE
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder, ResidualDecoder, ResidualEncoder

CENTRE = [(0.5, 0.5)]


def made(encoder, decoder):
    torch.manual_seed(0)
    optimizer = partial(torch.optim.Adam, lr=1e-3)
    return VAE(encoder(), decoder, latent_dim=3, likelihood=Gaussian(), optimizer=optimizer)


@pytest.fixture
def model():
    options = {"image_size": 8, "channels": 1, "width": 4}
    return made(
        partial(ResidualEncoder, attention=[8], dropout=0.2, heads=2, **options),
        partial(ResidualDecoder, attention=[4], dropout=0.2, **options),
    )


@pytest.fixture
def data():
    return Digits(image_size=8, batch_size=8)


def cells(picture, columns):
    """A picture as (rows, columns, 8, 8, 3)."""
    rows = picture.shape[0] // 10
    assert picture.shape == (2 + 10 * rows, 2 + 10 * columns, 3)
    inner = [[picture[2 + 10 * r : 10 + 10 * r, 2 + 10 * c : 10 + 10 * c] for c in range(columns)] for r in range(rows)]
    return np.array(inner).astype(int)


def test_rows_hold_the_image_its_reconstruction_and_the_attention_of_each_layer(model, data):
    found = cells(draw_attention(model, data, 3, [(0.0, 0.0), (0.5, 0.3)]), 2 + 2 * 2)
    stored = data.split("val")[torch.arange(3)]["x"]
    x = data.modality.to_model(stored)
    assert (found[:, 0] == stored.permute(0, 2, 3, 1).numpy()).all()
    shown = data.modality.quantise(model.reconstruct(x)).permute(0, 2, 3, 1).numpy().astype(int)
    assert np.abs(found[:, 1] - shown).max() <= 1

    model.eval()
    inputs = []
    layers = list(attention_layers(model).values())
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    model.reconstruct(x)
    for place, (layer, h, side) in enumerate(zip(layers, inputs, (8, 4), strict=True)):
        assert h.shape[2] == side
        for k, (row, column) in enumerate([(0, 0), (side // 2, int(0.3 * side))]):
            weights = layer.attention_map(h).mean(1)[:, row * side + column].view(3, side, side).detach()
            share = weights / weights.amax((1, 2), keepdim=True)
            share = share.repeat_interleave(8 // side, 1).repeat_interleave(8 // side, 2)[..., None].numpy()
            expected = stored.permute(0, 2, 3, 1).numpy() * (1 - share) + np.array([255, 51, 0]) * share
            top, left = [(0, 0), (4, 2)][k]
            expected[:, top, left] = [0, 255, 102]  # the mark
            assert np.abs(found[:, 2 + 2 * place + k] - expected).max() <= 1


def test_without_positions_it_is_the_mean_over_all(model, data):
    for layer in attention_layers(model).values():
        torch.nn.init.zeros_(layer.qkv.weight)  # all positions attend to all alike
    found = cells(draw_attention(model, data, 2, []), 4)
    assert (found[:, 2:] == [255, 51, 0]).all()


def test_it_leaves_no_trace(model, data):
    model.train()
    model.encoder.eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    first = draw_attention(model, data, 2, CENTRE)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(weight.grad is None for weight in model.parameters())
    torch.rand(3)
    assert np.array_equal(draw_attention(model, data, 2, CENTRE), first)


def test_images_are_those_that_reconstructions_are_shown_of(model, data):
    class Tested(Digits):
        splits = ("train", "test")

        def load_split(self, name):
            return data.split("val" if name == "test" else name)

    held_out = draw_attention(model, Tested(image_size=8), 2, CENTRE)
    assert np.array_equal(held_out, draw_attention(model, data, 2, CENTRE))


def test_pictures_are_written_at_validations(model, data, make_trainer, tmp_path):
    callback = AttentionMaps(num=2, every_n_validations=2)
    make_trainer(callback, max_steps=3, val_check_interval=1, limit_val_batches=1).fit(model, data)
    written = sorted(tmp_path.rglob("attention/*.png"))
    assert [path.name for path in written] == ["step=000001.png", "step=000003.png"]
    with Image.open(written[0]) as picture:
        assert picture.size == (2 + 4 * 10, 2 + 2 * 10)


def test_training_is_the_same_with_and_without_it(model, data, make_trainer):
    start = {name: value.clone() for name, value in model.state_dict().items()}
    ends = []
    for callbacks in ([AttentionMaps(num=1)], []):
        model.load_state_dict(start)
        torch.manual_seed(0)
        model.seed = 0
        make_trainer(*callbacks, max_steps=2, val_check_interval=1, limit_val_batches=1).fit(model, data)
        ends.append({name: value.clone() for name, value in model.state_dict().items()})
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_compiled_networks_show_theirs_too(model, data):
    plain = draw_attention(model, data, 2, CENTRE)
    model.compiled = ["encoder"]
    model.encoder.compile(backend="eager")
    model.reconstruct(torch.zeros(2, 1, 8, 8))  # what is compiled by now would not call a hook
    assert np.array_equal(draw_attention(model, data, 2, CENTRE), plain)


def test_what_cannot_be_drawn_is_refused(make_gan, make_ring, make_trainer):
    trainer = make_trainer(AttentionMaps(), max_steps=1)
    with pytest.raises(UserError, match="AttentionMaps needs a model that can reconstruct, which GAN cannot"):
        trainer.fit(make_gan(), make_ring())
    points = made(MLPEncoder, partial(MLPDecoder, sample_dim=2))
    with pytest.raises(UserError, match="needs attention, of which VAE has none: set attention in its networks"):
        make_trainer(AttentionMaps(), max_steps=1).fit(points, make_ring())
    points.attention = ResidualEncoder(8, 1, 4, attention=[8])
    with pytest.raises(UserError, match="needs data of images, but data is Ring2D"):
        make_trainer(AttentionMaps(), max_steps=1).fit(points, Ring2D(num_samples=16, num_val=8, batch_size=8))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"num": 0}, "num is 0"), ({"positions": [(0.5, 1.5)]}, r"positions holds \(0.5, 1.5\): .*fractions in \[0, 1\]")],
)
def test_bad_arguments_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        AttentionMaps(**options)
