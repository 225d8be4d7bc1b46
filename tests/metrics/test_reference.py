import os
import stat

import pytest
import torch
from metrics_fakes import Linear, Table, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, SpatialFID, frechet_distance, reference_statistics


def test_moments_for_any_batch_size_far_from_the_origin(tmp_path):
    x = vectors(101, shift=500.0)

    class Shifted(Linear):
        def extract(self, x):
            features = super().extract(x - 500)
            return type(features)(features.pooled * 2.0**-10 + 4096, features.logits)

    f = Shifted()(x).pooled.double()
    for batch_size in (1, 13, 256):
        s = reference_statistics(Shifted(), Table(x), batch_size=batch_size, cache_dir=tmp_path / str(batch_size))
        torch.testing.assert_close(s.mean, f.mean(0), rtol=1e-15, atol=0)
        torch.testing.assert_close(s.cov, torch.cov(f.T), rtol=1e-9, atol=1e-18)
        assert s.n == 101
        assert s.mean.dtype == s.cov.dtype == torch.float64


def test_cache_goes_by_content_weights_split_and_limit(tmp_path):
    def reads(extractor, x, **options):
        table = Table(x)
        reference_statistics(extractor, table, cache_dir=tmp_path, **options)
        return table.reads

    x = vectors(60)
    assert reads(Linear(), x) == 1
    assert reads(Linear(), x) == 0
    assert reads(Linear(), x, batch_size=7) == 0
    assert reads(Linear(), x + 1) == 1
    assert reads(Linear(seed=1), x) == 1
    assert reads(Linear(), x, num=50) == 1
    assert reads(Linear(), x, split="val") == 1
    assert reads(Linear(), x) == 0
    assert len(list(tmp_path.iterdir())) == 5


def test_what_comes_from_the_cache_is_the_same(tmp_path):
    x = vectors(60)
    a, b = (reference_statistics(Linear(), Table(x), cache_dir=tmp_path) for _ in range(2))
    assert torch.equal(a.mean, b.mean)
    assert torch.equal(a.cov, b.cov)
    assert (a.n, a.protocol) == (b.n, b.protocol)


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all", None])
def test_damaged_file_is_computed_again(tmp_path, damage):
    x = vectors(60)
    good = reference_statistics(Linear(), Table(x), cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-8] if damage is None else damage)
    with pytest.warns(UserWarning, match="computed again"):
        again = reference_statistics(Linear(), Table(x), cache_dir=tmp_path)
    assert torch.equal(good.cov, again.cov)
    table = Table(x)
    reference_statistics(Linear(), table, cache_dir=tmp_path)
    assert table.reads == 0


def test_cache_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(UserWarning, match="not cached"):
        assert reference_statistics(Linear(), Table(vectors(60)), cache_dir=blocked / "cache").n == 60


def test_default_folder_is_the_variable(tmp_path):
    reference_statistics(Linear(), Table(vectors(60)))
    (file,) = (tmp_path / "cache").iterdir()
    assert file.suffix == ".safetensors"
    assert stat.S_IMODE(os.stat(file).st_mode) & 0o400


def test_too_little_data(tmp_path):
    with pytest.raises(UserError, match="'train' holds 1 rows"):
        reference_statistics(Linear(), Table(vectors(60)), num=1, cache_dir=tmp_path)


def test_fid_takes_its_reference_from_data(tmp_path):
    metric = FID(Linear())
    metric.fit_reference(Table(vectors(100)), split="train", num=90, cache_dir=tmp_path)
    metric.begin(100)
    metric.update(vectors(100, 1))
    assert float(metric.compute()) > 0
    protocol = metric.protocol()
    assert protocol["reference"]["split"] == "train"
    assert protocol["reference"]["num"] == protocol["reference"]["limit"] == 90
    assert protocol["num_samples"] == 100


class Classed(Table):
    def rows(self, *args, **kwargs):
        for batch in super().rows(*args, **kwargs):
            yield batch | {"y": (batch["x"][:, 0] > 0).long()}


class Mapped(Linear):
    """With spatial features."""

    num_spatial = 3

    def extract(self, x):
        features = super().extract(x)
        return type(features)(features.pooled, features.logits, x[:, :3] * 2)


def test_features_classes_and_spatial_statistics_are_kept_where_needed(tmp_path):
    x = vectors(1101)
    table = Classed(x)
    s = reference_statistics(Mapped(), table, cache_dir=tmp_path)
    assert s.features is s.y is s.spatial is None
    full = reference_statistics(Mapped(), table, cache_dir=tmp_path, needs={"features", "spatial"}, batch_size=100)
    assert table.reads == 2  # the file lacked them
    assert torch.equal(full.features, Linear()(x).pooled)
    assert torch.equal(full.y, (x[:, 0] > 0).long())
    torch.testing.assert_close(full.spatial.cov, torch.cov(2 * x[:, :3].T.double()))
    torch.testing.assert_close(full.cov, s.cov, rtol=1e-12, atol=1e-14)
    again = reference_statistics(Mapped(), table, cache_dir=tmp_path, needs={"features"})
    assert table.reads == 2
    assert torch.equal(again.features, full.features)
    assert torch.equal(again.y, full.y)
    assert again.spatial is None  # not read where nobody asks
    assert reference_statistics(Mapped(), table, cache_dir=tmp_path).features is None
    assert table.reads == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_features_that_are_not_finite_name_the_row(tmp_path):
    x = vectors(60)
    x[41] = torch.inf
    with pytest.raises(UserError, match=r"extractor .linear. gave NaN.* sample 41 of the set"):
        reference_statistics(Linear(), Table(x), cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_reference_of_another_extractor_says_what_differs(tmp_path):
    s = reference_statistics(Linear(), Table(vectors(60)), cache_dir=tmp_path)
    with pytest.raises(UserError, match=r"fid_linear was made with another extractor \(weights_sha256 '0', not '1'\)"):
        FID(Linear(seed=1)).set_reference(s)


def test_spatial_fid(tmp_path):
    data, x = Table(vectors(300)), vectors(200, 1)
    metric = SpatialFID(Mapped())
    assert metric.name == "sfid_linear"
    metric.fit_reference(data, cache_dir=tmp_path)
    metric.begin(200)
    metric.update(x)
    first, second = ((2 * t[:, :3]).double() for t in (data.x, x))
    expected = frechet_distance(first.mean(0), torch.cov(first.T), second.mean(0), torch.cov(second.T))
    assert float(metric.compute()) == pytest.approx(float(expected), rel=1e-9)
    with pytest.raises(UserError, match="extractor 'linear' gives none"):
        SpatialFID(Linear())
    with pytest.raises(UserError, match="was made without spatial"):
        metric.set_reference(reference_statistics(Mapped(), data, cache_dir=tmp_path))


def test_an_entry_keeps_the_pieces_that_others_need(tmp_path):
    table = Classed(vectors(60))
    for needs in ({"features"}, {"spatial"}, {"features"}, {"spatial"}, {"features", "spatial"}):
        reference_statistics(Mapped(), table, cache_dir=tmp_path, needs=needs)
    assert table.reads == 2
