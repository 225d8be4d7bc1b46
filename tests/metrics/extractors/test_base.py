import os
import subprocess
import sys

import pytest
import torch
from metrics_fakes import Linear, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import (
    FID,
    DigitsClassifier,
    FeatureExtractor,
    GenerativeMetric,
    InceptionScore,
    Raw,
    quantise_images,
)
from lightning_gen.metrics.extractors.digits_classifier import WEIGHTS


def test_quantise_images():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert quantise_images(levels) is levels
    x = levels.float() / 127.5 - 1
    assert torch.equal(quantise_images(x), levels)
    assert torch.equal(quantise_images(x * 1.0005), levels)  # clamped, not wrapped
    assert quantise_images(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.bfloat16)).tolist() == [0, 128, 255]
    for wrong in (x * 127.5, x + 0.5, torch.full((1, 1, 2, 2), torch.nan)):
        with pytest.raises(UserError, match=r"must lie in \[-1, 1\]"):
            quantise_images(wrong)
    with pytest.raises(UserError, match=r"dtype torch\.int64"):
        quantise_images(levels.long())


def test_stays_frozen_in_eval_and_float32_whatever_happens_around_it():
    e, x = Linear(), vectors(5)
    expected = e(x)
    model = torch.nn.ModuleDict({"e": e})
    model.train().to(torch.bfloat16).half()
    with torch.autocast("cpu", torch.bfloat16):
        found = e(x)
    assert torch.equal(found.pooled, expected.pooled)  # dropout would differ, and so would another precision
    assert found.pooled.dtype == found.logits.dtype == torch.float32
    assert not any(m.training for m in e.modules())
    assert not any(p.requires_grad for p in e.parameters())


def test_tf32_is_off_within_and_restored_after():
    from lightning_gen.metrics.extractors import full_float32

    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("this torch has no fp32_precision")
    flags = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [f.fp32_precision for f in flags]
    with full_float32(torch.device("cuda")):  # flags only: no GPU is needed
        assert [f.fp32_precision for f in flags] == ["ieee", "ieee"]
    assert [f.fp32_precision for f in flags] == before


def test_preparing_draws_no_random_numbers_and_ignores_the_default_dtype():
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.bfloat16)
    try:
        e = DigitsClassifier().prepare()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.dtype for p in e.parameters()} == {torch.float32}


def test_nan_features_name_the_extractor_and_the_sample():
    x = vectors(20)
    x[2] = torch.nan
    metric = InceptionScore(Linear(), splits=2)
    metric.begin(20)
    metric.update(x[:2], torch.arange(10, 12))
    metric.update(x[2:], torch.arange(12, 30) % 20)
    with pytest.raises(UserError, match=r"extractor 'linear' gave NaN.* sample 12 of the set"):
        metric.compute()


def test_raw():
    x = vectors(4).view(4, 2, 3)
    assert torch.equal(Raw(6)(x).pooled, x.flatten(1))
    with pytest.raises(UserError, match=r"num_features=2.* 6 numbers"):
        Raw()(x)


def test_digits_weights_are_small_and_accurate():
    from lightning_gen.data import Digits

    e, data = DigitsClassifier(), Digits(image_size=32)
    x, y = (torch.cat([b[k] for b in data.rows("val")]) for k in ("x", "y"))
    features = e(x)
    assert features.pooled.shape == (len(x), 32)
    assert features.logits.shape == (len(x), 10)
    accuracy = float((features.logits.argmax(1) == y).float().mean())
    assert accuracy >= 0.98
    assert WEIGHTS.stat().st_size < 1e6
    # stated where users read it
    from safetensors import safe_open

    with safe_open(WEIGHTS, "pt") as file:
        assert float(file.metadata()["held_out_accuracy"]) == pytest.approx(accuracy, abs=1e-4)
    assert f"{accuracy:.1%}".replace("%", " %") in DigitsClassifier.__doc__


def test_digits_takes_any_size_grey_or_colour():
    e = DigitsClassifier()
    grey = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    torch.testing.assert_close(e(grey.expand(-1, 3, -1, -1)).pooled, e(grey).pooled)
    assert e(grey[:0]).pooled.shape == (0, 32)
    with pytest.raises(UserError, match="1 or 3"):
        e(grey.expand(-1, 2, -1, -1))


@pytest.mark.parametrize("build", [FID, InceptionScore])
def test_metrics_carry_no_weights_and_keep_float64(build):
    metric = build(Linear().prepare())
    holder = torch.nn.ModuleDict({"metric": metric})
    assert not holder.state_dict()
    assert not list(holder.parameters())
    holder.to(torch.bfloat16).half()
    metric.set_dtype(torch.float16)
    assert {v.dtype for v in metric.metric_state.values()} == {torch.float64}
    holder.to("meta")
    assert metric.extractor.device.type == metric.num_seen.device.type == "meta"


def test_yaml_builds_extractor_and_metrics():
    from collections.abc import Callable

    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--extractor", type=FeatureExtractor)
    parser.add_argument("--metrics", type=list[Callable[[FeatureExtractor], GenerativeMetric]])
    text = {
        "extractor": {"class_path": "lightning_gen.metrics.DigitsClassifier"},
        "metrics": [
            {"class_path": "lightning_gen.metrics.FID"},
            {"class_path": "lightning_gen.metrics.InceptionScore", "init_args": {"splits": 5}},
        ],
    }
    built = parser.instantiate_classes(parser.parse_object(text))
    metrics = [build(built.extractor) for build in built.metrics]
    assert [m.name for m in metrics] == ["fid_digits", "is_digits"]
    assert metrics[1].splits == 5


def test_importing_loads_neither_lightning_nor_data():
    # (torchmetrics itself loads torchvision and torch-fidelity)
    other = "lightning", "pytorch_lightning", "lightning_gen.data", "lightning_gen.model", "sklearn"
    code = f"import sys, lightning_gen.metrics; print([m for m in {other} if m in sys.modules])"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == "[]"
