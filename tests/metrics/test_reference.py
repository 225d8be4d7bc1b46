import os
import stat

import pytest
import torch
from metrics_fakes import Linear, Table, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, reference_statistics


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
