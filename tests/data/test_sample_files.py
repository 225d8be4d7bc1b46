import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.data.sample_files import open_samples
from lightning_gen.errors import UserError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
"""Seven colour images, 5 high and 4 wide."""


def write(folder, images=PIXELS):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return path


def read(samples, **options):
    """All images and classes, through the stream, in order of their index."""
    batches = list(samples.rows(batch_size=3, **options))
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


@pytest.fixture(params=["folder", "zip", "npz", "compressed", "npy", "channels first", "adm"])
def stored(request, tmp_path):
    """The same images in every form."""
    path = tmp_path / "images.npz"
    match request.param:
        case "folder":
            return write(tmp_path / "images")
        case "zip":
            return zipped(write(tmp_path / "images"), tmp_path / "images.zip")
        case "npz":
            np.savez(path, images=PIXELS, more=np.zeros(3))
        case "compressed":
            np.savez_compressed(path, images=PIXELS)
        case "npy":
            path = path.with_suffix(".npy")
            np.save(path, PIXELS)
        case "channels first":
            np.savez(path, images=PIXELS.transpose(0, 3, 1, 2))
        case "adm":
            np.savez(path, PIXELS)
    return path


@pytest.mark.parametrize("num_workers", [0, 3])
def test_every_form_gives_the_same_bytes(stored, num_workers):
    samples = open_samples(str(stored), "--samples", num_workers=num_workers)
    assert (len(samples), samples.images.shape) == (7, (3, 5, 4))
    found = read(samples)
    assert found["x"].dtype == torch.uint8
    assert np.array_equal(found["x"].numpy(), PIXELS.transpose(0, 3, 1, 2))
    assert found["index"].tolist() == list(range(7))
    assert np.array_equal(samples.images[torch.tensor([5, 2])]["x"].numpy(), PIXELS.transpose(0, 3, 1, 2)[[5, 2]])
    assert "y" not in found


def test_processes_share_the_images_without_padding(stored):
    samples = pickle.loads(pickle.dumps(open_samples(str(stored), "--samples")))  # as other processes get it
    shares = [list(samples.rows(rank=r, world_size=4, batch_size=1)) for r in range(4)]
    assert [[int(batch["index"]) for batch in share] for share in shares] == [[0, 4], [1, 5], [2, 6], [3]]
    for share in shares:
        for batch in share:
            assert np.array_equal(batch["x"][0].numpy(), PIXELS[int(batch["index"])].transpose(2, 0, 1))
    assert list(samples.rows(rank=7, world_size=8)) == []


def test_the_first_of_the_set(stored):
    samples = open_samples(str(stored), "--samples", limit=4)
    assert len(samples) == len(read(samples)["x"]) == 4
    assert samples.fingerprint() == open_samples(str(stored), "--samples", limit=4).fingerprint()
    assert samples.fingerprint() != open_samples(str(stored), "--samples").fingerprint()
    with pytest.raises(UserError, match=r"images\S* holds 7 images, but 8 are to be used: use at most 7"):
        open_samples(str(stored), "--samples", limit=8)


def test_fingerprints_follow_the_content(tmp_path):
    folder = write(tmp_path / "images")
    before = open_samples(str(folder), "--samples").fingerprint()
    assert open_samples(str(folder), "--samples").fingerprint() == before
    os.utime(folder / "3.png", ns=(1, 1))
    assert open_samples(str(folder), "--samples").fingerprint() == before
    other = write(tmp_path / "other")  # the same images elsewhere
    assert open_samples(str(other), "--samples").fingerprint() == before
    pixels = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes((folder / "4.png").read_bytes().ljust(len(pixels), b"\0")[: len(pixels)])
    os.utime(folder / "3.png", ns=(1, 1))  # other bytes, as many, at the same time
    assert open_samples(str(folder), "--samples").fingerprint() != before

    changed = PIXELS.copy()
    changed[6, 0, 0, 0] ^= 1
    for form in ("zip", "npz"):
        prints = []
        for i, images in enumerate((PIXELS, changed, PIXELS)):
            path = tmp_path / f"set.{form}"
            if form == "npz":
                np.savez(path, images=images)
            else:
                zipped(write(tmp_path / f"{form}{i}", images), path)
            prints.append([open_samples(str(path), "-", limit).fingerprint() for limit in (None, 6)])
        assert prints[0] == prints[2]  # of the content, whatever the time
        assert prints[0][0] != prints[1][0]
        assert prints[0][1] == prints[1][1]


def test_names_are_sorted_and_hidden_files_left_out(tmp_path):
    folder = tmp_path / "images"
    for i, name in enumerate(("b", "a/10", "a/9", "c/deep/0")):
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 10 * i).save(file)
    for name in (".hidden/0.png", "a/.0.png", "__MACOSX/0.png", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        if not name.startswith("__"):
            (folder / name).write_bytes(b"no image")
    path = zipped(folder, tmp_path / "images.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/0.png", b"no image")
    for place in (folder, path):
        assert read(open_samples(str(place), "--samples"))["x"][:, 0, 0, 0].tolist() == [10, 20, 0, 30]


def test_images_of_all_kinds_are_read_as_they_look(tmp_path):
    """Grey alone stays grey; among colours it becomes colour, and that is told."""
    folder = tmp_path / "images"
    folder.mkdir()
    levels = (np.arange(16, dtype=np.uint16) * 4369).reshape(4, 4)  # 0 … 65535
    Image.fromarray(levels).save(folder / "a16.png")
    Image.new("LA", (4, 4), (40, 0)).save(folder / "b.png")
    Image.new("L", (4, 4), 7).save(folder / "c.png")
    grey = open_samples(str(folder), "--samples")
    assert grey.images.shape == (1, 4, 4)
    assert grey.notes == []
    found = read(grey)["x"]
    assert found[0].flatten().tolist() == list(range(0, 256, 17))
    assert found[1:, 0, 0, 0].tolist() == [255, 7]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(folder / "d.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    colour = open_samples(str(folder), "--samples")
    assert colour.images.shape == (3, 4, 4)
    assert colour.notes == [f"--samples {folder}: 3 of 4 images are grey and are measured as RGB"]
    assert read(colour)["x"][:, :, 0, 0].tolist() == [[0] * 3, [255] * 3, [7] * 3, [10, 20, 30]]


def test_turned_images_have_the_size_they_are_seen_in(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to view
    Image.fromarray(PIXELS[0].transpose(1, 0, 2)).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(PIXELS[1]).save(tmp_path / "b.png")
    found = read(open_samples(str(tmp_path), "--samples"))["x"]
    assert np.array_equal(found[0].numpy(), np.rot90(PIXELS[0].transpose(1, 0, 2), k=-1).transpose(2, 0, 1))


def test_classes_are_folders_or_labels(tmp_path):
    for name in ("10", "9", "2"):
        write(tmp_path / "numbers" / name, PIXELS[:1])
        write(tmp_path / "names" / f"n{name}" / "deep", PIXELS[:1])
    numbers = open_samples(str(tmp_path / "numbers"), "--samples", labels=True)
    assert read(numbers)["y"].tolist() == [2, 0, 1]  # by number: 2, 9, 10
    names = open_samples(str(zipped(tmp_path / "names", tmp_path / "n.zip")), "--samples", labels=True)
    assert read(names)["y"].tolist() == [0, 1, 2]
    assert names.class_names == ["n10", "n2", "n9"]
    assert "y" not in read(open_samples(str(tmp_path / "names"), "--samples"))
    np.savez(tmp_path / "adm.npz", PIXELS, np.arange(7)[::-1])
    assert read(open_samples(str(tmp_path / "adm.npz"), "--samples", limit=5))["y"].tolist() == [6, 5, 4, 3, 2]
    write(tmp_path / "names")
    with pytest.raises(
        UserError, match=r"but 0\.png lies directly in --samples \S+names: put each image in the folder"
    ):
        open_samples(str(tmp_path / "names"), "--samples", labels=True)
    with pytest.raises(UserError, match="--labels takes folders for classes"):
        open_samples(str(tmp_path / "adm.npz"), "--samples", labels=True)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_images_of_different_sizes_are_named(tmp_path, form):
    folder = write(tmp_path / "images")
    Image.new("RGB", (6, 3)).save(folder / "5.png")
    path = folder if form == "folder" else zipped(folder, tmp_path / "images.zip")
    told = r"images\S* holds images of different sizes, 0\.png \(4×5\) and 5\.png \(6×3\): give images of one size"
    with pytest.raises(UserError, match=told):
        open_samples(str(path), "--samples")


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_damaged_images_are_counted_and_named(tmp_path, form, num_workers):
    """One that a header tells stops at once; those that only decoding tells stop the stream. All are counted."""
    folder = write(tmp_path / "images", RNG.integers(0, 256, (30, 40, 40, 3), dtype=np.uint8))
    for i in range(20, 27):
        file = folder / f"{i}.png"
        file.write_bytes(file.read_bytes()[:2000])
    path = folder if form == "folder" else zipped(folder, tmp_path / "images.zip")
    samples = open_samples(str(path), "--samples", num_workers=num_workers)
    told = r"images\S*: 7 of 30 images cannot be decoded: 20\.png \(.+\), .*24\.png \(.+\) and 2 more; make them anew"
    with pytest.raises(UserError, match=told):
        read(samples)
    with pytest.raises(UserError, match="7 of 30"):
        _ = samples.images[torch.tensor([15])]
    (folder / "9.png").write_bytes(b"no image at all")
    path = folder if form == "folder" else zipped(folder, tmp_path / "images.zip")
    with pytest.raises(UserError, match="8 of 30 images cannot be decoded"):
        open_samples(str(path), "--samples")


def test_a_compressed_and_a_mapped_array_take_no_copy_or_one(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS)
    np.savez_compressed(tmp_path / "b.npz", images=PIXELS)
    mapped, loaded = (open_samples(str(tmp_path / f"{name}.npz"), "-").images._array for name in "ab")
    assert isinstance(mapped, np.memmap)
    assert not isinstance(loaded, np.memmap)


BAD_ARRAYS = {
    "floats": (
        {"images": PIXELS / np.float32(255)},
        r"holds float32 values, which may mean \[-1, 1\] or \[0, 1\]: save",
    ),
    "alpha": ({"images": np.zeros((2, 4, 4, 4), np.uint8)}, r"holds uint8 of shape \(2, 4, 4, 4\): give uint8 images"),
    "flat": ({"images": np.zeros((2, 48), np.uint8)}, r"holds uint8 of shape \(2, 48\)"),
    "none": ({"images": PIXELS[:0]}, r"holds uint8 of shape \(0, 5, 4, 3\)"),
    "wide": ({"images": PIXELS.astype(np.int64)}, "holds int64"),
    "name": ({"pictures": PIXELS}, "has no array images or arr_0, only pictures: name it so"),
    "labels": (
        {"images": PIXELS, "labels": np.arange(6)},
        r"has 'labels', int64 of shape \(6,\), which are no classes of 7",
    ),
    "negative": ({"images": PIXELS, "labels": -np.arange(7)}, r"has 'labels', int64 .* no classes of 7 images"),
    "objects": ({"images": np.array([PIXELS, None], dtype=object)}, "is no readable .npz file"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_arrays_of_the_wrong_kind_are_refused(tmp_path, kind):
    arrays, told = BAD_ARRAYS[kind]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=r"--samples \S+bad\.npz " + told):
        open_samples(str(tmp_path / "bad.npz"), "--samples")


def test_paths_of_the_wrong_kind_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    zipped(tmp_path / "empty", tmp_path / "empty.zip")
    for name in ("broken.zip", "broken.npz", "broken.npy", "images.tar"):
        (tmp_path / name).write_bytes(b"PK\3\4 and no more")
    np.savez(tmp_path / "cut.npz", images=np.zeros((50, 9, 9, 3), np.uint8))
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:5000])
    for name, told in {
        "nowhere": "does not exist: give a folder of images, or a .zip, .npz or .npy file",
        "empty": "which holds no images",
        "empty.zip": "holds no images: give an archive",
        "broken.zip": "cannot be read as a zip archive",
        "broken.npz": "is no readable .npz file",
        "broken.npy": "is no readable .npy file",
        "cut.npz": "is no readable .npz file",
        "images.tar": "is a file of another kind",
    }.items():
        with pytest.raises(UserError, match=rf"--samples .*{re.escape(name)}'?,? .*{re.escape(told)}"):
            open_samples(str(tmp_path / name), "--samples")


def test_the_grid_that_sample_puts_beside_its_images_is_no_sample(tmp_path):
    for i, pixels in enumerate(PIXELS[:3]):
        write(tmp_path / "generated", pixels[None])
        (tmp_path / "generated" / "0.png").rename(tmp_path / "generated" / f"{i:06d}.png")
    write(tmp_path, np.zeros((1, 50, 50, 3), np.uint8))
    (tmp_path / "0.png").rename(tmp_path / "generated" / "grid.png")
    samples = open_samples(str(tmp_path / "generated"), "--samples")
    assert len(samples) == 3
    assert "grid.png shows samples of `lightning_gen sample` and is left out" in samples.notes[0]
