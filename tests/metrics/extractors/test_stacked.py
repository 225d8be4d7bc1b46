import importlib.util
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lightning_gen.checkpoints import instantiate
from lightning_gen.data import Digits, Stacked
from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics import ClassCoverage, DigitsClassifier, StackedDigitsClassifier
from lightning_gen.metrics.base import GenerativeMetric
from lightning_gen.metrics.extractors.stacked import PACKAGED


@pytest.fixture(scope="module")
def digits():
    rows = Digits(val_fraction=0.2).split("val")
    return rows[torch.arange(40)]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_is_the_grey_classifier_on_every_channel(digits, channels):
    x = digits["x"][torch.arange(36).view(12, 3)[:, :channels], 0]
    found = StackedDigitsClassifier(channels, weights="digits")(x)
    each = [DigitsClassifier()(x[:, c : c + 1]) for c in range(channels)]
    assert torch.allclose(found.pooled, torch.cat([grey.pooled for grey in each], dim=1), atol=1e-5)
    assert found.logits.shape == (12, 10**channels)
    log_p = [grey.logits.double().log_softmax(dim=1) for grey in each]
    for number in range(10**channels):  # the number's digits, spelled out
        spelled = sum(log_p[c][:, int(digit)] for c, digit in enumerate(f"{number:0{channels}d}"))
        assert torch.allclose(found.logits[:, number].double(), spelled, atol=1e-4)
    assert torch.allclose(found.logits.double().exp().sum(dim=1), torch.ones(12, dtype=torch.float64), atol=1e-5)


def test_numbers_are_the_classes_of_the_stacked_data():
    data = Stacked(Digits(image_size=16), channels=2, num_val=200)
    batch = data.split("val")[torch.arange(200)]
    found = StackedDigitsClassifier(2, weights="digits")(batch["x"])
    assert (found.logits.argmax(dim=1) == batch["y"]).double().mean() > 0.97


def test_both_weights_that_ship_know_digits_and_say_who_they_are(digits):
    protocols = []
    for weights, path in PACKAGED.items():
        extractor = StackedDigitsClassifier(1, weights)
        right = (extractor(digits["x"]).logits.argmax(dim=1) == digits["y"]).double().mean()
        assert right > (0.95 if weights == "digits" else 0.5)  # MNIST's is at home in MNIST alone
        protocols.append(extractor.protocol())
        assert protocols[-1]["weights_sha256"] == file_sha256(path)
        assert (extractor.name, extractor.num_features, extractor.num_logits) == (f"stacked_{weights}", 32, 10)
    assert protocols[0]["weights"] == "digits"
    assert json.loads(json.dumps(protocols)) == protocols
    assert StackedDigitsClassifier().weights == "mnist"


def test_the_packaged_classifier_of_mnist_is_right_on_99_in_100():
    with safe_open(PACKAGED["mnist"], "pt") as file:
        facts = file.metadata()
    assert min(float(facts["test_accuracy"]), float(facts["test_accuracy_28x28"])) >= 0.99
    assert facts["test_images"] == "10000"
    assert PACKAGED["mnist"].stat().st_size < 2**20


def test_weights_of_ones_own(tmp_path, digits):
    path = tmp_path / "own.safetensors"
    save_file(load_file(PACKAGED["digits"]), path)
    extractor = StackedDigitsClassifier(1, str(path))
    assert extractor.name == "stacked_own"
    expected = StackedDigitsClassifier(1, "digits")(digits["x"]).logits
    assert torch.equal(extractor(digits["x"]).logits, expected)
    assert extractor.protocol()["weights_sha256"] == file_sha256(path)


def test_the_script_writes_what_the_extractor_reads(tmp_path, monkeypatch, capsys, digits):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = digits["x"][:, 0, 2:-2, 2:-2].contiguous(), digits["y"].to(torch.uint8)
    for part in ("train", "t10k"):
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{content.ndim}i", 0, 8, content.ndim, *content.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + content.numpy().tobytes())
    path = Path(__file__).parents[3] / "scripts" / "train_mnist_classifier.py"
    spec = importlib.util.spec_from_file_location("train_mnist_classifier", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    output = tmp_path / "out" / "own.safetensors"
    monkeypatch.setattr("sys.argv", ["x", "--root", str(tmp_path), "--output", str(output), "--epochs", "1"])
    try:
        script.main()
    finally:
        torch.use_deterministic_algorithms(False)
    said = capsys.readouterr().out
    with safe_open(output, "pt") as file:
        facts = file.metadata()
    assert f"test accuracy {facts['test_accuracy']}" in said
    logits = StackedDigitsClassifier(1, str(output))(digits["x"][..., 2:-2, 2:-2]).logits
    right = (logits.argmax(dim=1) == digits["y"]).double().mean()
    assert float(facts["test_accuracy_28x28"]) == pytest.approx(float(right), abs=1e-4)


def test_built_from_yaml(digits):
    config = {
        "class_path": "ClassCoverage",
        "init_args": {
            "extractor": {"class_path": "StackedDigitsClassifier", "init_args": {"channels": 2, "weights": "digits"}}
        },
    }
    metric = instantiate(GenerativeMetric, config)
    assert isinstance(metric, ClassCoverage)
    assert metric.name == "class_modes_stacked_digits"
    metric.begin(20)
    metric.update(digits["x"][:, 0].unflatten(0, (20, 2)))
    numbers = (10 * digits["y"][::2] + digits["y"][1::2]).unique()
    assert abs(float(metric.compute()) - len(numbers)) <= 1


def test_refusals(tmp_path, digits):
    for channels in (0, 4):
        with pytest.raises(UserError, match=f"channels is {channels}: it must be from 1 to 3"):
            StackedDigitsClassifier(channels)
    with pytest.raises(UserError, match=r"'stacked_digits' takes images \(B, 3, H, W\), got \(40, 1, 32, 32\): set"):
        StackedDigitsClassifier(3, "digits")(digits["x"])
    with pytest.raises(UserError, match=r"weights is 'none', but there is no such file: give digits, mnist, or a file"):
        StackedDigitsClassifier(1, "none").prepare()
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"weights is .*a\.safetensors', which does not fit"):
        StackedDigitsClassifier(1, str(tmp_path / "a.safetensors")).prepare()
