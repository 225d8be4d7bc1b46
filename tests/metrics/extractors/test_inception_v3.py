import io
from pathlib import Path
from unittest import mock

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics import FID, InceptionV3, ReferenceStatistics, frechet_distance
from lightning_gen.metrics.extractors import inception_v3

# random weights are not the published ones, which is told
pytestmark = pytest.mark.filterwarnings("ignore:.*is not the published.*:UserWarning")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(inception_v3, "_CPU_CHUNK", 2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights in the real format, with normalisations that do something."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    torch.manual_seed(0)
    with mock.patch.object(Theirs, "load_state_dict"), io.BytesIO() as nothing:
        torch.save({}, nothing)
        nothing.seek(0)
        network = Theirs("x", ["2048"], feature_extractor_weights_path=nothing)
    state = network.state_dict()
    for name, values in state.items():
        if ".bn." in name and values.is_floating_point():
            # widths near those of random inputs, so that signals neither vanish nor are drowned by the shifts
            low, high = (-0.1, 0.1) if name.endswith(("bias", "running_mean")) else (0.2, 0.4)
            values.uniform_(low, high)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return str(path)


@pytest.fixture(scope="module")
def published(weights):
    """torch-fidelity's network with all its outputs."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    outputs = ["64", "192", "768", "2048", "logits_unbiased"]
    return Theirs("x", outputs, feature_extractor_weights_path=weights)


@pytest.fixture(scope="module")
def images():
    """(3, 3, 20, 24) bytes, more than pass the network at once and no multiple of it."""
    return torch.randint(0, 256, (3, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def expected(published, images):
    """What torch-fidelity says about `images`, and the maps of sFID as it passes them, flattened by hand."""
    maps = []
    handle = published.Mixed_6d.branch1x1.register_forward_hook(lambda *call: maps.append(call[2].clone()))
    pooled64, pooled192, pooled768, pooled2048, logits = published(images)
    handle.remove()
    rows = [[m[c, i, j] for i in range(17) for j in range(17) for c in range(7)] for m in maps[0]]
    spatial = torch.tensor(rows)
    return {
        "64": (pooled64, None, None),
        "192": (pooled192, None, None),
        "768": (pooled768, None, spatial),
        "2048": (pooled2048, logits, spatial),
    }


@pytest.mark.parametrize("feature", ["64", "192", "768", "2048"])
def test_inception_equals_torch_fidelity(weights, images, expected, feature):
    ours = InceptionV3(feature, weights)
    found = ours(images)
    for kind, values, size in zip(
        ("pooled", "logits", "spatial"),
        expected[feature],
        (ours.num_features, ours.num_logits, ours.num_spatial),
        strict=True,
    ):
        if values is None:
            assert getattr(found, kind) is size is None
        else:
            assert values.std() > 1e-3  # the network has something to say
            assert getattr(found, kind).dtype == torch.float32
            assert getattr(found, kind).shape == (3, size)
            torch.testing.assert_close(getattr(found, kind), values, rtol=1e-5, atol=1e-5 * float(values.std()))
    assert (ours.name, ours.num_features) == (f"inception{feature}", int(feature))
    assert ours.protocol()["dtype"] == "float32"
    assert ours.protocol()["weights_sha256"] == file_sha256(Path(weights))


@pytest.mark.parametrize(
    ("feature", "last"), [("64", "MaxPool_1"), ("192", "MaxPool_2"), ("768", "Mixed_6e"), ("2048", "Mixed_7c")]
)
def test_nothing_above_the_tap_is_kept(weights, feature, last):
    network = InceptionV3(feature, weights).prepare().network
    assert list(network.layers)[-1] == last
    assert (network.class_weight is None) == (feature != "2048")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    kernels = [parameter for parameter in network.parameters() if parameter.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_fid_equals_torch_fidelity(weights, published):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    generator = torch.Generator().manual_seed(2)
    first = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=generator)
    second = (torch.rand(20, 3, 16, 16, generator=generator).square() * 256).byte()
    ours = InceptionV3("64", weights)
    with mock.patch.object(published, "features_list", ["64"]):
        theirs = [fid_features_to_statistics(published(x)[0]) for x in (first, second)]
    moments = [(x.double().mean(0), torch.cov(x.double().T)) for x in (ours(first).pooled, ours(second).pooled)]
    expected = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    assert float(frechet_distance(*moments[0], *moments[1])) == pytest.approx(expected, rel=1e-5)


def test_fid_equals_torchmetrics_without_antialiasing(weights):
    from torchmetrics.image import FrechetInceptionDistance

    generator = torch.Generator().manual_seed(2)
    real, fake = (
        (torch.rand(70, 3, 12, 12, generator=generator) * scale).mul(255).to(torch.uint8) for scale in (1.0, 0.8)
    )
    theirs = FrechetInceptionDistance(feature=64, feature_extractor_weights_path=weights, antialias=False)
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    ours = InceptionV3("64", weights)
    fid = FID(ours)
    x = ours(real).pooled.double()
    fid.set_reference(ReferenceStatistics(x.mean(0), torch.cov(x.T), len(x)))
    fid.begin(len(fake))
    fid.update(fake)
    assert float(fid.compute()) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_grey_images_are_seen_as_colour(weights, images):
    ours = InceptionV3("64", weights)
    grey = images[:, :1]
    torch.testing.assert_close(ours(grey).pooled, ours(grey.repeat(1, 3, 1, 1)).pooled)
    with pytest.raises(UserError, match=r"takes images \(B, 1 or 3, H, W\), got \(2, 4, 8, 8\)"):
        ours(torch.zeros(2, 4, 8, 8, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"got \(2, 8, 8\)"):
        ours(torch.zeros(2, 8, 8, dtype=torch.uint8))
    assert InceptionV3("768", weights)(images[:0]).spatial.shape == (0, 2023)


def test_bf16_is_another_extractor(weights, images, expected):
    ours = InceptionV3("192", weights, precision="bf16")
    assert ours.name == "inception192_bf16"
    assert FID(ours).name == "fid_inception192_bf16"
    assert ours.protocol()["dtype"] == "bfloat16"
    assert ours.protocol() != InceptionV3("192", weights).protocol()
    with torch.autocast("cpu", torch.float16):
        found = ours(images[:2]).pooled
    assert found.dtype == torch.float32
    error = (found - expected["192"][0][:2]).norm() / expected["192"][0][:2].norm()
    assert 1e-5 < error < 0.02  # bfloat16 rounds by up to 2^-9 = 0.002 in each of 5 layers


def test_compilation_is_for_one_shape(weights, images, expected):
    ours = InceptionV3("64", weights, compile=True).prepare()
    shapes = []
    network, options = ours.network, {}
    with mock.patch.object(
        network, "_compiled_call_impl", lambda x: (shapes.append(x.shape), network._call_impl(x))[1]
    ):
        found = ours(images).pooled
        ours(images[:1])
    with mock.patch.object(torch.nn.Module, "compile", lambda self, **given: options.update(given)):
        InceptionV3("64", weights, compile=True).prepare()
        assert options == {"options": {"freezing": True}}
        options.clear()
        InceptionV3("64", weights).prepare()
        assert not options
    assert len(set(shapes)) == 1
    assert found.shape == (3, 64)
    torch.testing.assert_close(found, expected["64"][0], rtol=1e-5, atol=1e-6)
    assert ours.protocol() == InceptionV3("64", weights).protocol()


def test_settings_are_checked():
    with pytest.raises(UserError, match="feature is '1024', but must be one of 64, 192, 768, 2048"):
        InceptionV3("1024")
    with pytest.raises(UserError, match="precision is 'fp16', but must be one of fp32, bf16"):
        InceptionV3(precision="fp16")


def test_inception_weights_that_stop_early(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    for name in state:
        if name.startswith(("Mixed_7", "fc")) and state[name].is_floating_point():
            state[name] = torch.full_like(state[name], torch.nan)
    path = tmp_path / "partial.pth"
    torch.save(state, path)
    InceptionV3("768", str(path)).prepare()
    with pytest.raises(UserError, match="NaN in layer Mixed_7a, which feature '2048' needs"):
        InceptionV3("2048", str(path)).prepare()


@pytest.mark.parametrize("name", ["Conv2d_2a_3x3.bn.running_var", "fc.weight"])
def test_nan_is_found_wherever_it_is(weights, tmp_path, name):
    state = torch.load(weights, weights_only=True)
    state[name].flatten()[3] = torch.nan
    path = tmp_path / "holed.pth"
    torch.save(state, path)
    with pytest.raises(UserError, match=f"NaN in layer {name.split('.')[0]}, which feature '2048' needs"):
        InceptionV3(weights_path=str(path)).prepare()


def test_weights_are_asked_for_at_first_use(tmp_path):
    extractor = InceptionV3(weights_path="nowhere.pth")  # building it from YAML is cheap and cannot fail
    with pytest.raises(UserError, match=r"weights_path is 'nowhere\.pth'"):
        extractor.prepare()
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        InceptionV3(weights_path=str(tmp_path / "empty.pth")).prepare()
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, tmp_path / "few.pth")
    with pytest.raises(UserError, match=r"few\.pth does not fit the FID Inception"):
        InceptionV3(weights_path=str(tmp_path / "few.pth")).prepare()
