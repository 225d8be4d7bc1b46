import io
import time
from unittest import mock

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, InceptionV3, inception_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights in the real format."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    torch.manual_seed(0)
    with mock.patch.object(Theirs, "load_state_dict"), io.BytesIO() as nothing:
        torch.save({}, nothing)
        nothing.seek(0)
        network = Theirs("x", ["2048"], feature_extractor_weights_path=nothing)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("feature", ["192", "2048"])
def test_inception_equals_torch_fidelity(weights, feature):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    x = torch.randint(0, 256, (2, 3, 20, 24), dtype=torch.uint8)
    ours = InceptionV3(feature, str(weights))
    found = ours(x)
    outputs = [feature, "logits_unbiased"] if feature == "2048" else [feature]
    expected = Theirs("x", outputs, feature_extractor_weights_path=str(weights))(x)
    torch.testing.assert_close(found.pooled, expected[0], rtol=1e-5, atol=1e-6)
    assert found.pooled.shape == (2, int(feature))
    assert (ours.name, ours.num_features) == (f"inception{feature}", int(feature))
    if feature == "2048":
        torch.testing.assert_close(found.logits, expected[1], rtol=1e-5, atol=1e-6)
        assert FID(ours).name == "fid_inception2048"
        grey = x[:, :1]
        torch.testing.assert_close(ours(grey).pooled, ours(grey.repeat(1, 3, 1, 1)).pooled)
    else:
        assert found.logits is None
        assert ours.num_logits is None
    assert ours.protocol()["weights_sha256"] == inception_weights.file_sha256(weights)


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


def test_where_inception_weights_are_found(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"")
    assert inception_weights.find_weights() == cached
    monkeypatch.setenv("LIGHTNING_GEN_INCEPTION_WEIGHTS", str(weights))
    assert inception_weights.find_weights() == weights
    assert inception_weights.find_weights(str(cached)) == cached
    with pytest.raises(UserError, match=r"weights_path is 'nowhere\.pth'"):
        inception_weights.find_weights("nowhere.pth")
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        InceptionV3(weights_path=str(cached)).prepare()


@pytest.mark.parametrize("network", ["silent", "refused"])
def test_missing_inception_weights_without_network(tmp_path, monkeypatch, network):
    def urlopen(*args, **kwargs):
        if network == "silent":
            time.sleep(30)
        raise OSError("unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(inception_weights.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(inception_weights, "_ANSWER_SECONDS", 0.5)
    extractor = InceptionV3()  # building it from YAML is cheap and cannot fail
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        extractor.prepare()
    assert time.monotonic() - start < 10
    for part in (
        "weights-inception-2015-12-05-6726825d.pth",
        "95,628,359 bytes",
        "SHA-256 6726825d0af5",
        "https://github.com/toshas/torch-fidelity",
        "weights_path",
        "LIGHTNING_GEN_INCEPTION_WEIGHTS",
        str(tmp_path),
        "DigitsClassifier",
    ):
        assert part in str(error.value)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_download_is_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(inception_weights.urllib.request, "urlopen", lambda *a, **k: io.BytesIO(b"not weights"))
    with pytest.raises(OSError, match="another SHA-256"):
        inception_weights.download(tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())
