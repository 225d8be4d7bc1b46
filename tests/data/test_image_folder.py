import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.data import ImageFolder, TensorRows
from lightning_gen.data.image_files import FileRows, decode
from lightning_gen.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 6), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def test_images_of_the_right_size_are_kept_exactly(tmp_path):
    colour = save(tmp_path / "c.png", Image.fromarray(COLOUR))
    grey = save(tmp_path / "g.png", Image.fromarray(GREY))
    assert np.array_equal(decode(colour, (6, 6), 3), COLOUR.transpose(2, 0, 1))
    assert np.array_equal(decode(grey, (6, 6), 1), GREY[None])
    assert np.array_equal(decode(grey, (6, 6), 3), np.stack([GREY] * 3))
    assert np.array_equal(decode(colour, (6, 6), 1)[0], np.asarray(Image.fromarray(COLOUR).convert("L")))


def test_palettes_are_looked_up(tmp_path):
    image = Image.fromarray(GREY).quantize(8)
    assert image.mode == "P"
    file = save(tmp_path / "p.png", image)
    assert np.array_equal(decode(file, (6, 6), 3), np.asarray(image.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_is_over_white(tmp_path, mode):
    if mode == "P":
        image = Image.new("P", (6, 6), 0)
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.putpixel((0, 0), 1)
        file = save(tmp_path / "t.png", image, transparency=0)
    else:
        image = Image.new("RGBA", (6, 6), (0, 0, 0, 0))
        image.putpixel((0, 0), (30, 30, 30, 255))
        file = save(tmp_path / ("t.tiff" if mode == "PA" else "t.png"), image.convert("LA" if mode != "RGBA" else mode))
    pixels = decode(file, (6, 6), 3)
    assert (pixels[:, 1:, 1:] == 255).all()
    assert (pixels[:, 0, 0] <= 30).all()


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    file = save(tmp_path / "t.png", Image.new("RGBA", (2, 2), (0, 100, 255, 128)))
    assert decode(file, (2, 2), 3)[:, 0, 0].tolist() == [127, 177, 255]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    levels = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    file = save(tmp_path / "s.png", Image.fromarray(levels))
    assert decode(file, (16, 16), 1).flatten().tolist() == list(range(256))


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr"])
def test_other_modes_become_colour(tmp_path, mode):
    image = Image.fromarray(COLOUR).convert(mode)
    file = save(tmp_path / ("m.png" if mode == "1" else "m.tiff"), image)
    expected = np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decode(file, (6, 6), 3), expected)


def test_floating_point_pixels_are_refused(tmp_path):
    file = save(tmp_path / "f.tiff", Image.fromarray(GREY.astype(np.float32)))
    with pytest.raises(ValueError, match="floating-point"):
        decode(file, (6, 6), 1)


def test_images_are_turned_as_their_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to view
    file = save(tmp_path / "e.png", Image.fromarray(GREY[:4]), exif=exif)
    assert np.array_equal(decode(file, (6, 4), 1)[0], np.rot90(GREY[:4], k=-1))


@pytest.mark.parametrize("shape", [(20, 60), (60, 20)])
def test_the_shorter_side_covers_and_the_middle_is_kept(tmp_path, shape):
    image = Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))
    file = save(tmp_path / "n.png", image)
    whole = np.asarray(image.resize((shape[1] // 2, shape[0] // 2), Image.Resampling.LANCZOS))
    middle = whole[:, 10:20] if shape[1] > shape[0] else whole[10:20]
    assert np.array_equal(decode(file, (10, 10), 1)[0], middle)
    assert decode(file, (8, 24), 3).shape == (3, 8, 24)


@pytest.fixture
def folder(tmp_path):
    """Nine images of a level each, in two classes and below; and what is to be ignored."""
    root = tmp_path / "images"
    endings = {"0.png": "PNG", "deep/er/2.ppm": "PPM", "1.BMP": "BMP"}
    files = [(f"{kind}/{name}", endings[name]) for kind in ("cat", "ant", "bee") for name in sorted(endings)]
    for i, (name, form) in enumerate(files):
        save(root / name, Image.new("L", (4, 3), 10 * i), format=form)
    save(root / ".hidden" / "a.png", Image.new("L", (4, 4), 255))
    save(root / "cat" / ".a.png", Image.new("L", (4, 4), 255))
    (root / "notes.txt").write_text("no image")
    return root


def levels(rows) -> list[int]:
    return rows[torch.arange(len(rows))]["x"][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_nested_folder_is_read_in_sorted_order(folder, in_memory):
    data = ImageFolder(str(folder), image_size=2, channels=1, labels=True, in_memory=in_memory)
    data.setup("fit")
    rows = data.split("train")
    assert isinstance(rows, TensorRows if in_memory else FileRows)
    assert levels(rows) == [30, 40, 50, 60, 70, 80, 0, 10, 20]
    assert rows[torch.arange(9)]["y"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (data.class_names, data.num_classes) == (["ant", "bee", "cat"], 3)
    assert data.sample_shape == rows.shape == (1, 2, 2)
    assert rows[torch.arange(0)]["x"].shape == (0, 1, 2, 2)


def test_without_labels_there_are_no_classes(folder):
    data = ImageFolder(str(folder), image_size=(3, 4))
    data.setup("fit")
    assert isinstance(data.split("train"), TensorRows)
    assert data.sample_shape == data.split("train").shape == (3, 3, 4)
    assert (data.num_classes, data.class_names) == (None, None)
    assert set(data.split("train")[torch.arange(2)]) == {"x"}


def test_large_sets_are_not_kept_in_memory(folder, monkeypatch):
    from lightning_gen.data import image_folder

    monkeypatch.setattr(image_folder, "IN_MEMORY_BYTES", 9 * 4)
    assert isinstance(ImageFolder(str(folder), image_size=2, channels=1).split("train"), FileRows)
    monkeypatch.setattr(image_folder, "IN_MEMORY_BYTES", 9 * 4 + 1)
    assert isinstance(ImageFolder(str(folder), image_size=2, channels=1).split("train"), TensorRows)


@pytest.mark.parametrize("in_memory", [True, False])
def test_held_out_images_are_always_the_same(folder, in_memory):
    data = ImageFolder(
        str(folder), image_size=2, channels=1, labels=True, val_fraction=0.3, in_memory=in_memory, seed=5
    )
    train, val = levels(data.split("train")), levels(data.split("val"))
    assert (len(train), len(val)) == (6, 3)
    assert sorted(train + val) == list(range(0, 90, 10))
    other = ImageFolder(str(folder), image_size=2, channels=1, val_fraction=0.3, seed=6)
    assert levels(other.split("val")) == val
    y = data.split("val")[torch.arange(3)]["y"].tolist()
    assert y == [(level // 30 + 2) % 3 for level in val]


@pytest.mark.parametrize("in_memory", [True, False])
def test_fingerprints_follow_the_files_and_the_settings(folder, in_memory):
    def make(size=2):
        return ImageFolder(str(folder), image_size=size, channels=1, in_memory=in_memory)

    before = make().fingerprint("train")
    assert make().fingerprint("train") == before != make(size=3).fingerprint("train")
    save(folder / "cat" / "0.png", Image.new("L", (4, 3), 99))
    os.utime(folder / "cat" / "0.png", ns=(1, 1))
    assert make().fingerprint("train") != before
    assert make().fingerprint("train", limit=9) == make().fingerprint("train")
    assert make().fingerprint("train", limit=8) != make().fingerprint("train")


def damage(folder):
    (folder / "ant" / "0.png").write_bytes(b"no image at all")
    file = save(folder / "bee" / "big.png", Image.fromarray(RNG.integers(0, 256, (64, 64), dtype=np.uint8)))
    file.write_bytes(file.read_bytes()[:2000])


@pytest.mark.parametrize("in_memory", [True, False])
def test_damaged_files_stop_and_are_named(folder, in_memory):
    damage(folder)
    data = ImageFolder(str(folder), image_size=2, in_memory=in_memory)
    with pytest.raises(UserError, match=r"2 of 10 images .* ant/0\.png \(.*, bee/big\.png \(.*on_corrupt to 'skip'"):
        data.setup("fit")


@pytest.mark.parametrize("in_memory", [True, False])
def test_damaged_files_are_skipped_with_one_warning(folder, in_memory):
    damage(folder)
    data = ImageFolder(
        str(folder), 2, channels=1, labels=True, in_memory=in_memory, on_corrupt="skip", val_fraction=0.2
    )
    with pytest.warns(UserWarning, match=r"2 of 10 images .* ant/0\.png .* bee/big\.png .* left out") as caught:
        data.setup("fit")
    assert len(caught) == 1
    kept = levels(data.split("train")) + levels(data.split("val"))
    assert sorted(kept) == [0, 10, 20, 40, 50, 60, 70, 80]
    y = torch.cat([data.split(name)[torch.arange(len(data.split(name)))]["y"] for name in data.splits]).tolist()
    assert y == [(level // 30 + 2) % 3 for level in kept]


def test_only_the_first_damaged_files_are_listed(tmp_path):
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(b"bad")
    save(tmp_path / "good.png", Image.fromarray(GREY))
    with pytest.raises(UserError, match=r"8 of 9 .*4\.png \([^)]*\) and 3 more"):
        ImageFolder(str(tmp_path), 2).setup("fit")
    (tmp_path / "good.png").unlink()
    with pytest.raises(UserError, match="give a folder of intact images"):
        ImageFolder(str(tmp_path), 2, on_corrupt="skip").setup("fit")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_damaged_later_is_named(folder, num_workers):
    data = ImageFolder(str(folder), 2, batch_size=3, in_memory=False, num_workers=num_workers)
    data.setup("fit")
    (folder / "bee" / "1.BMP").write_bytes(b"gone")
    with pytest.raises(UserError, match=r"bee/1\.BMP can no longer be decoded"):
        list(data.train_dataloader())


def test_absent_empty_and_unreadable_folders_are_told(folder, monkeypatch):
    empty = folder / "empty"
    empty.mkdir()
    for path, told in [
        (folder / "none", "which does not exist; give a folder of images"),
        (folder / "notes.txt", "which is a file; give the folder"),
        (empty, "which holds no images; give a folder with files ending in .bmp"),
    ]:
        with pytest.raises(UserError, match=re.escape(f"data.init_args.path is {str(path)!r}, {told}")):
            ImageFolder(str(path), 2).setup("fit")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"data\.init_args\.path is .* cannot be read \(Permission denied\)"):
        ImageFolder(str(folder), 2).setup("fit")


def test_labels_need_subfolders(folder):
    save(folder / "loose.png", Image.fromarray(GREY))
    with pytest.raises(UserError, match=r"labels is True, but loose\.png lies directly in"):
        ImageFolder(str(folder), 2, labels=True).setup("fit")
    assert len(ImageFolder(str(folder), 2).split("train")) == 10


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("channels", 4),
        ("val_fraction", -0.1),
        ("on_corrupt", "ignore"),
        ("image_size", (0, 4)),
        ("image_size", (4, 4, 4)),
    ],
)
def test_arguments_out_of_range_are_named(key, value):
    with pytest.raises(UserError, match=re.escape(f"data.init_args.{key} is {value!r}")):
        ImageFolder("images", **{"image_size": 2, key: value})
