import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from metrics_fakes import Linear, Table, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, ReferenceStatistics, SpatialFID, reference_statistics
from lightning_gen.metrics.kid import KID
from lightning_gen.metrics.reference_file import write_reference
from lightning_gen.metrics.statistics_import import given_reference, has_features, is_statistics, read_statistics

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upwards.*")
D = 8


def features(x):
    return Linear(D)(x).pooled.double().numpy()


def gaussian(x):
    """As pytorch-fid computes it."""
    rows = features(x)
    return {"mu": rows.mean(axis=0), "sigma": np.cov(rows, rowvar=False)}


def nothing():
    raise AssertionError("images are not to be opened")


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "reference.npz", **arrays)
        return str(tmp_path / "reference.npz")

    return write


def test_another_programs_statistics_give_the_same_fid(save):
    path = save(**gaussian(vectors(90)))
    assert is_statistics(path)
    assert not has_features(path)
    own, imported = FID(Linear(D)), FID(Linear(D))
    own.fit_reference(Table(vectors(90)))
    imported.set_reference(given_reference(path, "--reference", Linear(D), nothing))
    for metric in (own, imported):
        metric.begin(70)
        metric.update(vectors(70, seed=1, shift=0.3))
    assert float(imported.compute()) == pytest.approx(float(own.compute()), rel=1e-9)
    protocol = imported.protocol()["reference"]
    assert protocol["imported"] == "extractor, resize and number of samples are not known"
    assert len(protocol["imported_sha256"]) == 64


def test_single_precision_is_widened(save):
    arrays = gaussian(vectors(90))
    found = read_statistics(save(**{k: v.astype(np.float32) for k, v in arrays.items()}), "--reference", Linear(D))
    assert found.mean.dtype == found.cov.dtype == torch.float64
    torch.testing.assert_close(found.cov, torch.from_numpy(arrays["sigma"]), rtol=1e-5, atol=1e-7)


def test_spatial_statistics_of_adm(save):
    extractor = Linear(D)
    extractor.num_spatial = 5
    rows = np.random.default_rng(0).normal(size=(40, 5))
    more = {"mu_s": rows.mean(axis=0), "sigma_s": np.cov(rows, rowvar=False)}
    path = save(**gaussian(vectors(90)), **more)
    found = read_statistics(path, "--reference", extractor, frozenset({"spatial"}))
    assert np.allclose(found.spatial.mean, more["mu_s"])
    assert np.allclose(found.spatial.cov, more["sigma_s"])
    assert read_statistics(path, "--reference", extractor).spatial is None
    SpatialFID(extractor).set_reference(found)
    without = read_statistics(save(**gaussian(vectors(90))), "--reference", extractor, frozenset({"spatial"}))
    with pytest.raises(UserError, match="was made without spatial, which it needs: make it from the data"):
        SpatialFID(extractor).set_reference(without)


def test_images_beside_statistics_give_the_features(save, tmp_path):
    """As in the reference batches of ADM: mean and covariance of all data, images of some."""
    path = save(arr_0=np.zeros((3, 4, 4, 3), np.uint8), **gaussian(vectors(90)))
    assert has_features(path)
    data = Table(vectors(20, seed=5))
    found = given_reference(path, "--reference", Linear(D), lambda: data, {"features"}, cache_dir=tmp_path)
    assert np.allclose(found.mean, gaussian(vectors(90))["mu"])
    assert np.allclose(found.features, features(vectors(20, seed=5)), atol=1e-6)
    assert (found.n, found.protocol["features"]["num"], len(found.features)) == (None, 20, 20)
    assert given_reference(path, "--reference", Linear(D), nothing).features is None


def test_images_are_measured(save, tmp_path):
    path = save(arr_0=np.zeros((3, 4, 4, 3), np.uint8))
    assert not is_statistics(path)
    assert has_features(path)
    found = given_reference(path, "-", Linear(D), lambda: Table(vectors(20)), {"features"}, cache_dir=tmp_path)
    assert np.allclose(found.cov, gaussian(vectors(20))["sigma"])
    assert found.features.shape == (20, D)


def test_our_own_files_come_back_as_they_were(tmp_path):
    made = reference_statistics(Linear(D), Table(vectors(30)), cache_dir=tmp_path / "c", needs={"features"})
    path = tmp_path / "made.safetensors"
    write_reference(path, made)
    assert is_statistics(str(path))
    assert has_features(str(path))
    found = given_reference(str(path), "--reference", Linear(D), nothing, {"moments", "features", "spatial"})
    assert (found.n, found.protocol, found.spatial) == (30, made.protocol, None)
    for name in ("mean", "cov", "features"):
        assert torch.equal(getattr(found, name), getattr(made, name))
    KID(Linear(D)).set_reference(found)
    with pytest.raises(UserError, match=r"made with another extractor \(weights_sha256 '0', not '1'\): make it anew"):
        KID(Linear(D, seed=1)).set_reference(found)

    write_reference(path, replace(made, features=None))
    assert not has_features(str(path))
    bare = given_reference(str(path), "--reference", Linear(D), nothing, {"features"})
    with pytest.raises(UserError, match="kid_linear was made without features, which it needs: make it from the data"):
        KID(Linear(D)).set_reference(bare)


def turned(cov):
    other = cov.copy()
    other[0, 1] += 0.1
    return other


BAD = {
    "shape": (lambda a: a | {"mu": a["mu"][:5]}, r"holds mu (5,) and sigma (8, 8), but extractor 'linear' gives 8"),
    "square": (lambda a: a | {"sigma": a["sigma"][:5]}, r"holds mu (8,) and sigma (5, 8)"),
    "nan": (lambda a: a | {"mu": a["mu"] * np.nan}, "holds NaN, infinite or no floating-point values in mu or sigma"),
    "infinite": (lambda a: a | {"sigma": a["sigma"] / 0}, "holds NaN, infinite"),
    "integers": (lambda a: a | {"sigma": np.eye(8, dtype=int)}, "no floating-point values"),
    "asymmetric": (lambda a: a | {"sigma": turned(a["sigma"])}, "sigma is no covariance, since it is not symmetric"),
    "negative": (lambda a: a | {"sigma": -a["sigma"]}, "or has negative variances"),
    "names": (lambda a: {"m": a["mu"], "s": a["sigma"]}, "holds no statistics: they are called mu and sigma"),
    "objects": (lambda a: a | {"mu": np.array([a["mu"], None], dtype=object)}, "is no readable .npz file"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore:.*divide by zero.*")
def test_wrong_statistics_are_refused(save, kind):
    change, told = BAD[kind]
    with pytest.raises(UserError, match=r"--reference \S+npz.*" + re.escape(told)):
        read_statistics(save(**change(gaussian(vectors(90)))), "--reference", Linear(D))


def test_files_of_another_kind_are_refused(tmp_path):
    from safetensors.torch import save_file

    damaged, other, cut = (tmp_path / f"{name}.safetensors" for name in ("damaged", "other", "cut"))
    damaged.write_bytes(b"no tensors at all")
    save_file({"weight": torch.zeros(3)}, other)
    write_reference(cut, ReferenceStatistics(torch.zeros(D).double(), torch.eye(D).double(), 9))
    cut.write_bytes(cut.read_bytes()[:-50])
    for path, told in (
        (damaged, "cannot be read as .safetensors"),
        (other, "holds no statistics: give a file that `lightning_gen reference` wrote"),
        (cut, "cannot be read as .safetensors"),
        (tmp_path / "nowhere.safetensors", "does not exist: give"),
        (tmp_path / "nowhere.npz", "does not exist: give"),
    ):
        with pytest.raises(UserError, match=re.escape(path.name) + ".*" + re.escape(told)):
            read_statistics(str(path), "--reference", Linear(D))
    assert not is_statistics(str(tmp_path / "nowhere.npz"))


def test_statistics_of_other_programs_are_in_float32(save):
    class Half(Linear):
        def protocol(self):
            return {**super().protocol(), "dtype": "bfloat16"}

    with pytest.raises(UserError, match="statistics of float32 features, but extractor 'linear' is bfloat16"):
        read_statistics(save(**gaussian(vectors(90))), "--reference", Half(D))
