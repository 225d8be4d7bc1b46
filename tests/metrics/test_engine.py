import json
import random

import numpy as np
import pytest
import torch
from metrics_fakes import Linear, Table, sampler, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, DigitsClassifier, InceptionScore, Raw, measure, protocols
from lightning_gen.noise import sample_seeds


def fitted(extractor=None):
    e = extractor or Linear()
    fid = FID(e)
    fid.fit_reference(Table(vectors(300)))
    return [fid, InceptionScore(e, splits=5)]


def run(metrics, draw=sampler, **options):
    options = {"num_samples": 101, "batch_size": 32, "seed": 3, "device": "cpu", "quantise": lambda x: x} | options
    return measure(draw, metrics, **options)


def test_values_names_and_one_pass_of_a_shared_extractor():
    metrics = fitted()
    calls = metrics[0].extractor.calls
    values = run(metrics)
    assert list(values) == ["fid_linear", "is_linear", "is_linear_std"]
    assert metrics[0].extractor.calls - calls == 4  # 101 samples by 32
    by_hand = FID(Linear())
    by_hand.set_reference(metrics[0].reference)
    by_hand.begin(101)
    by_hand.update(sampler(sample_seeds(3, torch.arange(101))))
    assert values["fid_linear"] == pytest.approx(float(by_hand.compute()), rel=1e-10)


def test_batch_size_and_repetition_do_not_matter_but_the_seed_does():
    metrics = fitted()
    values = run(metrics)
    assert run(metrics) == values
    for name, value in run(metrics, batch_size=7).items():
        assert value == pytest.approx(values[name], rel=1e-10)
    assert run(metrics, seed=4)["fid_linear"] != pytest.approx(values["fid_linear"], rel=1e-3)


def test_global_random_state_is_left_alone():
    def careless(seeds):
        torch.randn(3), np.random.rand(3), random.random()  # noqa: NPY002
        return sampler(seeds)

    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    expected = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    run(fitted(), careless)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002


def test_no_gradient_and_images_are_quantised():
    weight = torch.ones((), requires_grad=True)

    def images(seeds):
        x = torch.tanh(sampler(seeds)[:, :1, None, None].expand(-1, 1, 8, 8) * weight)
        assert not x.requires_grad
        return x.to(torch.bfloat16)

    with torch.autocast("cpu", torch.bfloat16):
        values = measure(
            images, [InceptionScore(DigitsClassifier())], num_samples=40, batch_size=16, seed=0, device="cpu"
        )
    assert 1 <= values["is_digits"] <= 10


def test_refusals():
    def nan(seeds):
        x = sampler(seeds)
        x[1] = torch.nan
        return x

    with pytest.raises(UserError, match="sample 1 of the set holds NaN"):
        run(fitted(), nan)
    with pytest.raises(UserError, match="fid_linear has no reference"):
        run([FID(Linear())])
    with pytest.raises(UserError, match="num_samples is 4, but is_linear needs at least 5"):
        run([InceptionScore(Linear(), splits=5)], num_samples=4)
    with pytest.raises(UserError, match="is_linear is listed more than once"):
        run([InceptionScore(Linear()), InceptionScore(Linear())])
    with pytest.raises(UserError, match="1 samples for 32 seeds"):
        run(fitted(), lambda seeds: sampler(seeds)[:1])
    with pytest.raises(ValueError, match="not initialised"):
        run(fitted(), world_size=2)


def test_inside_and_outside_of_inference_mode():
    metrics = fitted()
    with torch.inference_mode():
        inside = run(metrics)
        metrics[0].begin(101)
    metrics[0].update(sampler(sample_seeds(3, torch.arange(101))))
    assert float(metrics[0].compute()) == pytest.approx(inside["fid_linear"], rel=1e-10)
    assert run(metrics) == inside


def test_points():
    fid = FID(Raw())
    fid.fit_reference(Table(vectors(200)[:, :2]))
    values = run([fid], lambda seeds: sampler(seeds)[:, :2])
    assert values["fid_raw"] > 0


def test_protocols_are_json():
    metrics = fitted()
    found = json.loads(json.dumps(protocols(metrics, 101, 3, weights="ema")))
    assert found["fid_linear"]["reference"]["split"] == "train"
    assert found["is_linear"]["splits"] == 5
    for protocol in found.values():
        assert protocol["num_samples"] == 101
        assert protocol["seed"] == 3
        assert protocol["weights"] == "ema"
        assert protocol["extractor"]["weights_sha256"] == "0"
