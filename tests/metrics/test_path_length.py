import math

import numpy as np
import pytest
import torch
from metrics_fakes import vectors

from lightning_gen.errors import UserError
from lightning_gen.latents import slerp
from lightning_gen.metrics import DigitsClassifier, Features, Raw, measure
from lightning_gen.metrics.blocks import blocks_of
from lightning_gen.metrics.path_length import PathLength
from lightning_gen.noise import Noise, sample_seeds

EVERYTHING = {"percentiles": (0.0, 100.0)}


class Model:
    """G(z) of one latent in 6 dimensions."""

    def __init__(self, generator):
        self.generator, self.asked = generator, []

    def interpolate(self, seeds_a, seeds_b, t, y=None):
        self.asked.append((seeds_a, seeds_b, t))
        a, b = (Noise(seeds).normal(6, dtype=torch.float64) for seeds in (seeds_a, seeds_b))
        return self.generator(slerp(a, b, t))


def linear(seed=0):
    matrix = vectors(6, seed).double()
    return Model(lambda z: z @ matrix), matrix


def pictures():
    """Smooth images (n, 1, 16, 16) in [-1, 1]."""
    mix = vectors(256, 3).T
    return Model(lambda z: ((z.float() @ mix) / 4).sin().view(-1, 1, 16, 16))


def values(metric, model, num_samples=300, batch_size=64, **options):
    shared = {"num_samples": num_samples, "batch_size": batch_size, "seed": 5, "device": "cpu"}
    return measure(metric.sampler(model), [metric], quantise=lambda x: x, **shared, **options)


def speeds(model, matrix):
    """‖z′(t) A‖² with z = r s: s′ = θ (cos(tθ) v − cos((1 − t)θ) u) / sin θ and r′ = ‖b‖ − ‖a‖."""
    seeds_a, seeds_b, t = (torch.cat(each).numpy() for each in zip(*model.asked[::2], strict=True))
    a, b = (Noise(torch.from_numpy(s)).normal(6, dtype=torch.float64).numpy() for s in (seeds_a, seeds_b))
    found = []
    for p, q, at in zip(a, b, t, strict=True):
        r, u, v = np.linalg.norm(p), p / np.linalg.norm(p), q / np.linalg.norm(q)
        angle, change = np.arccos(u @ v), np.linalg.norm(q) - r
        s = (np.sin((1 - at) * angle) * u + np.sin(at * angle) * v) / np.sin(angle)
        turn = angle * (np.cos(at * angle) * v - np.cos((1 - at) * angle) * u) / np.sin(angle)
        found.append(np.sum(((change * s + (r + at * change) * turn) @ matrix.numpy()) ** 2))
    return np.array(found)


def test_a_linear_generator_in_closed_form():
    model, matrix = linear()
    metric = PathLength(Raw(6), **EVERYTHING)
    found = values(metric, model)
    expected = speeds(model, matrix)
    assert len(expected) == 300
    assert found["ppl_raw"] == pytest.approx(expected.mean(), rel=1e-3)
    block = blocks_of(torch.arange(300), 20).numpy()
    left_out = np.array([expected[block != b].mean() for b in range(20)])
    assert found["ppl_raw_se"] == pytest.approx(left_out.std() * 19**0.5, rel=5e-3)


def test_percentiles_as_numpy_takes_them():
    model, matrix = linear()
    found = values(PathLength(Raw(6)), model)["ppl_raw"]
    every = speeds(model, matrix)
    low, high = np.percentile(every, 1, method="lower"), np.percentile(every, 99, method="higher")
    kept = every[(every >= low) & (every <= high)]
    assert 290 <= len(kept) < 300
    assert found == pytest.approx(kept.mean(), rel=1e-3)
    assert found < every.mean()


def test_paths_are_drawn_as_they_should():
    model, _ = linear()
    values(PathLength(Raw(6)), model, num_samples=4000, batch_size=1000)
    (a, b, t), (a2, b2, next_t) = (
        [torch.cat(each) for each in zip(*calls, strict=True)] for calls in (model.asked[::2], model.asked[1::2])
    )
    assert torch.equal(a, sample_seeds(5, torch.arange(4000)))  # where other metrics' samples are
    assert torch.equal(a, a2)
    assert torch.equal(b, b2)
    assert torch.allclose(next_t - t, torch.tensor(1e-4, dtype=torch.float64), rtol=1e-9)
    assert len(torch.cat([a, b]).unique()) == 8000
    assert abs(float(t.mean()) - 0.5) < 4 / (12 * 4000) ** 0.5
    assert 0 < float(t.min()) < 0.01 < 0.99 < float(t.max()) < 1
    z = torch.stack([Noise(seeds).normal(6)[:, 0] for seeds in (a, b)])
    assert abs(float(torch.corrcoef(torch.cat([z, t[None]]))[0, 1:].abs().max())) < 0.06
    assert abs(float(torch.corrcoef(torch.cat([z, t[None]]))[1, 2])) < 0.06


@pytest.mark.parametrize("extractor", [Raw(6), DigitsClassifier()], ids=["raw", "digits"])
def test_equal_for_any_batch_size_and_share(extractor):
    model = linear()[0] if extractor.name == "raw" else pictures()
    metric = PathLength(extractor)
    name, whole = metric.name, values(metric, model, 60)
    assert values(metric, model, 60, batch_size=7) == pytest.approx(whole, rel=1e-3)
    assert values(metric, model, 60) == whole
    metric.begin(60)  # two processes, one after the other
    for rank in range(2):
        index = torch.arange(60)[rank::2]
        metric.update(metric.sampler(model)(sample_seeds(5, index)), index)
    assert float(metric.compute()) == pytest.approx(whole[name], rel=1e-3)


def test_a_step_of_any_length_measures_the_same_speed():
    """With rounding to bytes, small steps would be 0 or far too long."""
    model = pictures()
    found = [
        values(PathLength(DigitsClassifier(), epsilon), model, 100)["ppl_digits"] for epsilon in (1e-2, 1e-3, 1e-4)
    ]
    assert found[0] > 0
    assert found == pytest.approx([found[1]] * 3, rel=0.02)


def test_the_extractor_sees_the_scale_of_bytes():
    seen = []

    class Spy(DigitsClassifier):
        def extract(self, x):
            seen.append(x)
            return super().extract(x)

    model = pictures()
    values(PathLength(Spy()), model, 10)
    x = torch.cat(seen[2:])
    assert x.dtype == torch.float32
    assert x.shape == (20, 1, 16, 16)
    with torch.no_grad():
        first = model.interpolate(*(each[:1] for each in model.asked[0]))
    torch.testing.assert_close(x[:1], (first + 1) * 127.5)


def test_autocast_around_it_changes_nothing():
    model, metric = pictures(), PathLength(DigitsClassifier())
    whole = values(metric, model, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert values(metric, model, 20) == whole


def test_protocol_and_name():
    metric = PathLength(DigitsClassifier(), epsilon=1e-3)
    assert metric.name == "ppl_digits"
    assert not metric.needs
    found = metric.protocol()
    assert found["epsilon"] == 1e-3
    assert found["extractor"]["quantisation"] is None
    assert found["extractor"]["weights_sha256"] == DigitsClassifier().protocol()["weights_sha256"]
    assert "not LPIPS" in found["distance"]


def test_refusals():
    for epsilon in (0, -1e-4, math.nan):
        with pytest.raises(UserError, match=r"epsilon is .* above 0"):
            PathLength(Raw(), epsilon)
    for percentiles in ((99, 1), (-1, 99), (1, 101)):
        with pytest.raises(UserError, match="percentiles"):
            PathLength(Raw(), percentiles=percentiles)
    with pytest.raises(UserError, match="ppl_raw walks between latents, but object has no interpolate"):
        PathLength(Raw()).sampler(object())
    for extractor, x in ((Raw(6), vectors(5)), (DigitsClassifier(), torch.zeros(5, 3, 16, 16))):
        with pytest.raises(UserError, match="not samples that are there already"):
            PathLength(extractor).update(x)


def test_an_extractor_that_rounds_is_refused():
    class Rounds(DigitsClassifier):
        def extract(self, x):
            return super().extract(x.round())

    with pytest.raises(UserError, match="extractor 'digits' rounds images"):
        values(PathLength(Rounds()), pictures(), 10)


def test_only_pooled_features_count():
    class Twice(Raw):
        def extract(self, x):
            pooled = super().extract(x).pooled
            return Features(torch.cat([pooled, pooled], dim=1), logits=pooled)

    model, _ = linear()
    once = values(PathLength(Raw(6)), model)["ppl_raw"]
    assert values(PathLength(Twice(6)), model)["ppl_raw"] == pytest.approx(2 * once, rel=1e-3)
