import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics import FID, DigitsClassifier, FeatureExtractor, Features
from lightning_gen.metrics.extractors.digits_classifier import WEIGHTS, DigitsNetwork
from lightning_gen.metrics.extractors.module import ModuleExtractor, state_sha256


class Seen(torch.nn.Module):
    """Returns what it is given, flattened, and whatever else a test asks of it."""

    def __init__(self, logits=None, dropout=0.0):
        super().__init__()
        self.logits = logits
        self.dropout = torch.nn.Dropout(dropout)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        features = self.dropout(x.flatten(1) * self.scale)
        return features if self.logits is None else (features, features[:, : self.logits])


@pytest.fixture
def images():
    return torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["w.safetensors", "w.pth"])
def digits_weights(request, tmp_path_factory):
    state = {k.removeprefix("body."): v for k, v in load_file(WEIGHTS).items() if k.startswith("body.")}
    path = tmp_path_factory.mktemp("weights") / request.param
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def test_equals_the_digits_classifier_given_its_parts(digits_weights):
    e = ModuleExtractor(
        DigitsNetwork(), "own", 32, weights_path=str(digits_weights), num_channels=1, image_size=16, value_range=(0, 1)
    )
    x = torch.randint(0, 256, (5, 3, 28, 28), dtype=torch.uint8)
    torch.testing.assert_close(e(x).pooled, DigitsClassifier()(x).pooled)
    assert e(x).logits is None
    assert e.protocol()["weights_sha256"] == file_sha256(digits_weights)
    assert e.protocol()["resize"] == "bilinear, antialiased, clamped, to 16x16"


def test_values_reach_the_network_as_it_wants_them(images):
    x = images.float() / 255

    def seen(**options):
        return ModuleExtractor(Seen(), "seen", 48, **options)(images).pooled.view(3, 3, 4, 4)

    torch.testing.assert_close(seen(), x)
    torch.testing.assert_close(seen(value_range=(-1.0, 1.0)), 2 * x - 1)
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    torch.testing.assert_close(seen(mean=mean, std=std)[:, 2], (x[:, 2] - 0.3) / 2)
    torch.testing.assert_close(seen(mean=[0.5])[:, 1], x[:, 1] - 0.5)
    grey = images[:, :1]
    torch.testing.assert_close(
        ModuleExtractor(Seen(), "seen", 48, num_channels=3)(grey).pooled.view(3, 3, 4, 4),
        grey.expand(-1, 3, -1, -1) / 255,
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize_is_that_of_pil(interpolation):
    import numpy as np
    from PIL import Image

    x = torch.randint(0, 256, (1, 1, 50, 40), dtype=torch.uint8)
    found = (
        ModuleExtractor(Seen(), "seen", 256, image_size=16, interpolation=interpolation)(x).pooled.view(16, 16) * 255
    )
    image = Image.fromarray(x[0, 0].numpy().astype(np.float32), mode="F")
    expected = image.resize((16, 16), getattr(Image.Resampling, interpolation.upper()))
    torch.testing.assert_close(found, torch.from_numpy(np.array(expected)).clamp(0, 255), atol=1e-3, rtol=0)


def test_pairs_are_features_and_logits(images):
    e = ModuleExtractor(Seen(logits=10), "seen", 48, num_logits=10)
    found = e(images)
    assert isinstance(found, Features)
    assert torch.equal(found.logits, found.pooled[:, :10])
    assert e(images[:0]).logits.shape == (0, 10)


def test_the_network_given_stays_in_training(images):
    network = Seen(dropout=0.5).to(torch.bfloat16).train()
    before = copy.deepcopy(network.state_dict())
    e = ModuleExtractor(network, "seen", 48).train()
    first = e.to(torch.float64)(images).pooled
    assert torch.equal(first, e(images).pooled)  # dropout would differ
    assert first.dtype == torch.float32
    assert {p.dtype for p in e.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in e.parameters())
    assert network.training
    assert all(p.requires_grad and p.dtype == torch.bfloat16 for p in network.parameters())
    with torch.no_grad():
        network.scale.fill_(3)
    assert torch.equal(first, e(images).pooled)
    assert set(before) == {"scale"}


def test_no_weights_enter_checkpoints(images):
    holder = torch.nn.ModuleDict({"metric": FID(ModuleExtractor(Seen(), "seen", 48).prepare())})
    assert not holder.state_dict()
    assert not list(holder.parameters())


def test_a_network_without_a_file_is_known_by_its_weights():
    def sha256(seed):
        torch.manual_seed(seed)
        return ModuleExtractor(torch.nn.Linear(4, 2), "x", 2).protocol()["weights_sha256"]

    assert sha256(0) == sha256(0) != sha256(1)
    a, b = torch.nn.Linear(4, 2), torch.nn.Linear(2, 4)
    b.load_state_dict({"weight": a.weight.detach().view(4, 2), "bias": torch.cat([a.bias, a.bias]).detach()})
    assert state_sha256(a) != state_sha256(b)
    pools = [ModuleExtractor(torch.nn.AvgPool2d(k), "x", 2).protocol() for k in (2, 4)]
    assert pools[0]["architecture_sha256"] != pools[1]["architecture_sha256"]


def test_bad_arguments_and_networks(images, tmp_path):
    for options, message in (
        ({"name": "my net"}, r"name is 'my net'"),
        ({"num_features": 0}, "num_features is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"num_channels": 2}, "num_channels is 2"),
        ({"std": [1.0, 0.0]}, "std is"),
    ):
        with pytest.raises(UserError, match=rf"ModuleExtractor\.{message}"):
            ModuleExtractor(**{"network": Seen(), "name": "x", "num_features": 48} | options)
    with pytest.raises(UserError, match=r"returns features \(3, 48\) for 3 images.*num_features says \(3, 47\)"):
        ModuleExtractor(Seen(), "x", 47)(images)
    with pytest.raises(UserError, match=r"returns logits \(3, 5\) .*num_logits says none"):
        ModuleExtractor(Seen(logits=5), "x", 48)(images)
    with pytest.raises(UserError, match=r"returns logits NoneType .*num_logits says \(3, 5\)"):
        ModuleExtractor(Seen(), "x", 48, num_logits=5)(images)
    with pytest.raises(UserError, match="mean has 2 values for images of 3 channels"):
        ModuleExtractor(Seen(), "x", 48, mean=[0.0, 0.0])(images)
    with pytest.raises(UserError, match=r"takes images \(B, C, H, W\)"):
        ModuleExtractor(Seen(), "x", 48)(images.flatten(1))
    with pytest.raises(UserError, match=r"weights_path is 'gone\.pth'"):
        ModuleExtractor(Seen(), "x", 48, weights_path="gone.pth").prepare()
    path = tmp_path / "w.pth"
    torch.save({"other": torch.ones(())}, path)
    with pytest.raises(UserError, match=r"w\.pth', which does not fit .*Seen: .*[Mm]issing key"):
        ModuleExtractor(Seen(), "x", 48, weights_path=str(path)).prepare()
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"w\.pth cannot be read as a state dict"):
        ModuleExtractor(Seen(), "x", 48, weights_path=str(path)).prepare()


def test_yaml_builds_it(digits_weights):
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--extractor", type=FeatureExtractor)
    config = {
        "class_path": "lightning_gen.metrics.extractors.module.ModuleExtractor",
        "init_args": {
            "network": {"class_path": "lightning_gen.metrics.extractors.digits_classifier.DigitsNetwork"},
            "name": "own",
            "num_features": 32,
            "weights_path": str(digits_weights),
            "num_channels": 1,
            "image_size": 16,
            "value_range": [0, 1],
        },
    }
    e = parser.instantiate_classes(parser.parse_object({"extractor": config})).extractor
    assert FID(e).name == "fid_own"
    assert e(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).pooled.shape == (2, 32)
