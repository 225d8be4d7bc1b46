"""Digits, the idx sets, CIFAR-10 and arrays."""

import gzip
import pickle

import numpy as np
import pytest
import torch

from lightning_gen.data import CIFAR10, MNIST, Digits, FashionMNIST, ImageArrays
from lightning_gen.data.resize import cover
from lightning_gen.errors import UserError


def test_digits_are_the_ones_of_scikit_learn():
    from sklearn.datasets import load_digits

    data = Digits(image_size=8)
    train, val = data.split("train"), data.split("val")
    assert (len(train), len(val)) == (1438, 359)
    assert train.shape == data.sample_shape == (1, 8, 8)
    assert (data.num_classes, data.class_names[3]) == (10, "3")
    x = torch.cat((train.tensors["x"], val.tensors["x"]))
    levels = (x.double() * 16 / 255).round()
    assert sorted(levels.flatten(1).tolist()) == sorted(load_digits().images.reshape(1797, 64).tolist())
    counts = train.tensors["y"].bincount() + val.tensors["y"].bincount()
    assert torch.equal(counts, torch.from_numpy(load_digits().target).bincount())


def test_digits_are_split_alike_whatever_the_seed():
    assert Digits(seed=1).fingerprint("val") == Digits(seed=2).fingerprint("val")
    assert Digits(seed=1).fingerprint("val") != Digits(seed=1, image_size=16).fingerprint("val")
    data = Digits(val_fraction=0.0)
    assert data.splits == ("train",)
    assert len(data.split("train")) == 1797
    assert data.split("train").shape == (1, 32, 32)


@pytest.mark.parametrize(("key", "value"), [("val_fraction", 1.0), ("image_size", 0)])
def test_bad_arguments_of_digits_are_named(key, value):
    with pytest.raises(UserError, match=rf"data\.init_args\.{key} is {value}"):
        Digits(**{key: value})


def write_idx(folder, counts=(5, 3), packed=False):
    folder.mkdir(parents=True)
    written = {}
    for part, count in zip(("train", "t10k"), counts, strict=True):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
        written[part] = images
    return written


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_idx_files_are_read_packed_or_not(tmp_path, kind, packed):
    written = write_idx(tmp_path / kind.__name__ / "raw", packed=packed)
    data = kind(root=str(tmp_path), download=False, image_size=28)
    data.prepare_data()
    assert data.sample_shape == data.split("train").shape == (1, 28, 28)
    assert np.array_equal(data.split("train").tensors["x"][:, 0].numpy(), written["train"])
    assert np.array_equal(data.split("test").tensors["x"][:, 0].numpy(), written["t10k"])
    assert data.split("train").tensors["y"].tolist() == [0, 1, 2, 3, 4]
    assert data.split("val").fingerprint() == data.split("test").fingerprint()
    assert len(data.class_names) == data.num_classes == 10


def test_idx_images_are_padded_to_32_and_resized_otherwise(tmp_path):
    written = write_idx(tmp_path / "MNIST" / "raw")
    x = MNIST(root=str(tmp_path)).split("train").tensors["x"]
    assert x.shape == (5, 1, 32, 32)
    assert np.array_equal(x[:, 0, 2:-2, 2:-2].numpy(), written["train"])
    assert int(x.sum()) == int(written["train"].sum())
    half = MNIST(root=str(tmp_path), image_size=14).split("train").tensors["x"]
    assert half.shape == (5, 1, 14, 14)
    assert abs(half.float().mean() - written["train"].mean()) < 4


def test_absent_idx_files_are_told(tmp_path):
    data = MNIST(root=str(tmp_path), download=False)
    for attempt in (data.prepare_data, lambda: data.split("train")):
        with pytest.raises(
            UserError, match=r"data\.init_args\.root is .*MNIST/raw has no train-images.*download to true"
        ):
            attempt()


def test_a_failed_download_is_told(tmp_path, monkeypatch):
    from torchvision import datasets

    def fail(self):
        raise RuntimeError("Error downloading:\nTried there, got:\nno route")

    monkeypatch.setattr(datasets.MNIST, "download", fail)
    with pytest.raises(UserError, match=r"data\.init_args\.root .* the download failed \(no route\)"):
        MNIST(root=str(tmp_path)).prepare_data()
    write_idx(tmp_path / "MNIST" / "raw", packed=True)
    MNIST(root=str(tmp_path)).prepare_data()  # nothing to download


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x00\x08\x03\x00", b"no idx file", b"\x00\x00\x08\x01\x00\x00\x00\x09ab"]
)
def test_damaged_idx_files_are_named(tmp_path, content):
    write_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte is damaged"):
        MNIST(root=str(tmp_path)).split("train")


def test_truncated_packed_idx_files_are_named(tmp_path):
    write_idx(tmp_path / "MNIST" / "raw", packed=True)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz is damaged"):
        MNIST(root=str(tmp_path)).split("train")


def test_cifar10_is_read_through_torchvision(tmp_path, monkeypatch):
    from torchvision.datasets import cifar

    monkeypatch.setattr(cifar, "check_integrity", lambda *args: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    for i, name in enumerate(
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    ):
        part = {"data": images[2 * i : 2 * i + 2].reshape(2, -1), "labels": [i, 9 - i]}
        (folder / name).write_bytes(pickle.dumps(part))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    data = CIFAR10(root=str(tmp_path), download=False)
    data.prepare_data()
    assert np.array_equal(data.split("train").tensors["x"].numpy(), images[:10])
    assert data.split("train").tensors["y"].tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert np.array_equal(data.split("test").tensors["x"].numpy(), images[10:])
    assert data.split("val").fingerprint() == data.split("test").fingerprint()
    assert data.sample_shape == (3, 32, 32)
    small = CIFAR10(root=str(tmp_path), image_size=16)
    assert small.split("train").shape == small.sample_shape == (3, 16, 16)


def test_absent_cifar10_is_told(tmp_path):
    data = CIFAR10(root=str(tmp_path), download=False)
    for attempt in (data.prepare_data, lambda: data.split("test")):
        with pytest.raises(UserError, match=r"data\.init_args\.root is .*cifar-10-batches-py .*download to true"):
            attempt()


RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
        (COLOUR[..., 0], COLOUR[:, None, ..., 0]),
        (COLOUR[..., :1], COLOUR[:, None, ..., 0]),
    ],
)
def test_arrays_of_every_form_are_read(tmp_path, array, expected):
    np.save(tmp_path / "a.npy", array)
    data = ImageArrays(str(tmp_path / "a.npy"))
    assert np.array_equal(data.split("train").tensors["x"].numpy(), expected)
    assert data.sample_shape == expected.shape[1:]
    assert data.num_classes is None
    assert data.splits == ("train",)


def test_arrays_of_several_files_are_one_set(tmp_path):
    for i, part in enumerate(("b", "a", "c")):
        labels = np.array([2 * i, 2 * i + 1], dtype=np.uint8)
        np.savez(tmp_path / f"{part}.npz", images=COLOUR[2 * i : 2 * i + 2], labels=labels)
    data = ImageArrays([str(tmp_path / "[ab].npz"), str(tmp_path / "c.npz")])
    order = [2, 3, 0, 1, 4, 5]
    assert data.split("train").tensors["y"].tolist() == order
    assert np.array_equal(data.split("train").tensors["x"].numpy(), COLOUR[order].transpose(0, 3, 1, 2))
    assert data.num_classes == 6
    assert ImageArrays(str(tmp_path / "*.npz"), num_classes=10).num_classes == 10
    assert ImageArrays(str(tmp_path / "*.npz"), labels_key=None).num_classes is None
    halves = ImageArrays(str(tmp_path / "*.npz"), val_fraction=0.5)
    seen = [halves.split(name).tensors["y"].tolist() for name in halves.splits]
    assert [len(part) for part in seen] == [3, 3]
    assert sorted(seen[0] + seen[1]) == list(range(6))


def test_arrays_are_resized_when_asked(tmp_path):
    np.save(tmp_path / "a.npy", COLOUR)
    data = ImageArrays(str(tmp_path / "a.npy"), image_size=(4, 8))
    assert data.split("train").shape == data.sample_shape == (3, 4, 8)


@pytest.mark.parametrize(
    ("arrays", "arguments", "told"),
    [
        ({"images": COLOUR.astype(np.float32)}, {}, "holds float32"),
        ({"images": COLOUR[0, 0]}, {}, r"shape \(7, 3\)"),
        ({"image": COLOUR}, {}, r"no array 'images' \(did you mean 'image'\?\)"),
        ({"images": COLOUR, "labels": np.arange(5)}, {}, "not one integer an image"),
        ({"images": COLOUR, "labels": np.arange(6.0)}, {}, "not one integer an image: float64"),
        ({"images": COLOUR, "labels": np.arange(6)}, {"num_classes": 5}, "num_classes is 5; it must be at least 6"),
        ({"images": COLOUR, "labels": np.arange(6) - 1}, {}, "the smallest is -1"),
        ({"images": COLOUR}, {"num_classes": 5}, "num_classes is 5; it must be null"),
        ({"images": np.array([None, {}])}, {}, "is no readable"),
    ],
)
def test_unfit_arrays_are_told(tmp_path, arrays, arguments, told):
    np.savez(tmp_path / "a.npz", **arrays)
    data = ImageArrays(str(tmp_path / "a.npz"), **arguments)
    with pytest.raises(UserError, match=told):
        data.setup("fit")


def test_absent_damaged_and_unequal_arrays_are_told(tmp_path):
    with pytest.raises(UserError, match=r"data\.init_args\.paths: .*none\*.npz matches no file"):
        ImageArrays(str(tmp_path / "none*.npz")).setup("fit")
    with pytest.raises(UserError, match=r"paths is empty"):
        ImageArrays([]).setup("fit")
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip file")
    with pytest.raises(UserError, match=r"bad.npz is no readable"):
        ImageArrays(str(tmp_path / "bad.npz")).setup("fit")
    np.savez(tmp_path / "x1.npz", images=COLOUR)
    np.savez(tmp_path / "x2.npz", images=COLOUR[:, :4])
    with pytest.raises(UserError, match=r"x2.npz holds images of another shape"):
        ImageArrays(str(tmp_path / "x*.npz")).setup("fit")
    np.savez(tmp_path / "x2.npz", images=COLOUR, labels=np.arange(6))
    with pytest.raises(UserError, match=r"x2.npz and .*x1.npz differ in whether they hold labels"):
        ImageArrays(str(tmp_path / "x*.npz")).setup("fit")


def test_cover_crops_the_middle_and_keeps_what_fits():
    x = torch.zeros(3, 1, 4, 8, dtype=torch.uint8)
    x[..., 2:6] = 200
    assert torch.equal(cover(x, (4, 4)), torch.full((3, 1, 4, 4), 200, dtype=torch.uint8))
    assert cover(x, (4, 8)) is x
    assert torch.equal(cover(x, (2, 2)), torch.full((3, 1, 2, 2), 200, dtype=torch.uint8))
    assert torch.equal(cover(x, (2, 4), chunk=2), cover(x, (2, 4)))
