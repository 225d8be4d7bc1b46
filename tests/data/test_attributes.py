import re
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from lightning_gen.checkpoints import instantiate
from lightning_gen.data import DataModule, ImageFolder, Images, TensorRows
from lightning_gen.data.attributes import AttributeTable
from lightning_gen.errors import UserError

FILES = ["a/0.png", "a/1.png", "b/2.png", "b/deep/3.png"]
NAMES = ["Bald", "Pale Skin", "Smiling"]
TRUTH = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]]


@pytest.fixture
def folder(tmp_path):
    for i, file in enumerate(FILES):
        path = tmp_path / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 10 * i).save(path)
    return tmp_path / "images"


def table(path, text):
    path.write_text(text)
    return str(path)


def comma(path, files=FILES, values=TRUTH, low=0):
    rows = [",".join([file, *(str(v or low) for v in row)]) for file, row in zip(files, values, strict=True)]
    return table(path, "\n".join([",".join(["image_id", *NAMES]), *rows]))


def celeba(path, files=FILES):
    names = " ".join(name.replace(" ", "_") for name in NAMES)
    rows = [f"{file}  " + " ".join(f"{v or -1:2d}" for v in row) for file, row in zip(files, TRUTH, strict=True)]
    return table(path, "\n".join([str(len(rows)), names + " ", *rows]) + "\n")


def bare(files):
    return [file.rsplit("/", 1)[1] for file in files]


@pytest.mark.parametrize(
    "write",
    [
        comma,
        celeba,
        lambda path: comma(path, low=-1),
        lambda path: comma(path, bare(FILES)),
        lambda p: celeba(p, bare(FILES)),
    ],
)
def test_every_form_says_the_same(write, tmp_path):
    found = AttributeTable(write(tmp_path / "table"))
    assert [name.replace("_", " ") for name in found.names] == NAMES
    y = found.of([FILES[3], FILES[0], FILES[0]], "images")
    assert y.dtype == torch.float32
    assert y.tolist() == [TRUTH[3], TRUTH[0], TRUTH[0]]


def test_quotes_blanks_and_byte_order_marks(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffname, "x, y" ,z\r\n"a, b.png", 1 ,0\r\n\r\nc.png,0,1\r\n'.encode())
    found = AttributeTable(str(path))
    assert found.of(["c.png", "a, b.png"], "").tolist() == [[0, 1], [1, 0]]


def test_a_name_alone_counts_only_where_no_two_images_share_it(tmp_path):
    path = comma(tmp_path / "t.csv", ["0.png", "1.png", "b/0.png", "x.png"])
    found = AttributeTable(path)
    assert found.of(["a/1.png", "b/0.png"], "").tolist() == [TRUTH[1], TRUTH[2]]
    with pytest.raises(UserError, match=r"no row for 1 of the 2 images in 'images', such as a/0\.png"):
        found.of(["a/0.png", "b/0.png"], "images")


@pytest.mark.parametrize("in_memory", [True, False])
def test_samples_carry_their_attributes(folder, tmp_path, in_memory):
    data = ImageFolder(
        str(folder),
        2,
        channels=1,
        attributes=comma(tmp_path / "t.csv"),
        in_memory=in_memory,
        val_fraction=0.25,
        batch_size=3,
    )
    data.setup("fit")
    assert (data.attribute_names, data.class_names, data.num_classes) == (NAMES, None, 3)
    for split, count in (("train", 3), ("val", 1)):
        rows = data.split(split)
        batch = rows[torch.arange(len(rows))]
        assert batch["y"].shape == (count, 3)
        assert batch["y"].dtype == torch.float32
        assert batch["y"].tolist() == [TRUTH[level // 10] for level in batch["x"][:, 0, 0, 0].tolist()]
    (batch,) = data.train_dataloader()
    model = SimpleNamespace(dtype=torch.float64)
    data.trainer = SimpleNamespace(lightning_module=model)
    out = data.on_after_batch_transfer(batch, 0)
    assert out["y"].dtype == torch.float64
    levels = Images().quantise(out["x"])[:, 0, 0, 0]
    assert out["y"].tolist() == [TRUTH[level // 10] for level in levels.tolist()]
    if isinstance(data.split("train"), TensorRows):
        part = data.split("train").subset(torch.tensor([1]))
        assert part.y.dtype == torch.float32


def test_fingerprints_follow_the_attributes(folder, tmp_path):
    def make(in_memory, values=TRUTH):
        return ImageFolder(
            str(folder), 2, channels=1, attributes=comma(tmp_path / "t.csv", values=values), in_memory=in_memory
        ).fingerprint("train")

    for in_memory in (True, False):
        other = make(in_memory, [[0, 0, 0], *TRUTH[1:]])
        assert make(in_memory) == make(in_memory) != other


def test_attributes_can_be_chosen_and_ordered_in_yaml(folder, tmp_path):
    init = {"path": str(folder), "image_size": 2, "attributes": comma(tmp_path / "t.csv")}
    config = {"class_path": "ImageFolder", "init_args": init | {"attribute_choice": ["Smiling", "Bald"]}}
    data = instantiate(DataModule, config)
    assert (data.attribute_names, data.num_classes) == (["Smiling", "Bald"], 2)
    assert data.split("train").y.tolist() == [[row[2], row[0]] for row in TRUTH]


def test_what_does_not_fit_is_refused_before_images_are_read(folder, tmp_path):
    path = comma(tmp_path / "t.csv", FILES[:3], TRUTH[:3])
    told = (
        f"data.init_args.attributes: {path} has no row for 1 of the 4 images in {str(folder)!r}, such as b/deep/3.png"
    )
    with pytest.raises(UserError, match=re.escape(told)):
        ImageFolder(str(folder), 2, attributes=path).setup("fit")
    with pytest.raises(
        UserError, match=r"no attribute 'Bold' \(did you mean 'Bald'\?\): it has Bald, Pale Skin, Smiling"
    ):
        ImageFolder(str(folder), 2, attributes=path, attribute_choice=["Bold"]).setup("fit")
    for choice in ([], ["Bald", "Bald"]):
        with pytest.raises(UserError, match=re.escape(f"attribute_choice is {choice}: it must name at least one")):
            ImageFolder(str(folder), 2, attributes=path, attribute_choice=choice).setup("fit")
    with pytest.raises(UserError, match=r"data\.init_args\.labels is True; it must be false where attributes"):
        ImageFolder(str(folder), 2, labels=True, attributes=path)
    with pytest.raises(UserError, match=r"attribute_choice is \['Bald'\]; it must be null where no attributes"):
        ImageFolder(str(folder), 2, attribute_choice=["Bald"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no attributes or has no rows"),
        ("file,a,b\n", "names no attributes or has no rows"),
        ("2\n", "names no attributes or has no rows"),
        ("file\nx.png\n", "names no attributes or has no rows"),
        ("file,a,b\nx.png,1\n", "has 1 values for 'x.png', not a file and 2 attributes"),
        ("file,a,a\nx.png,1,0\n", "names the attribute 'a' more than once"),
        ("file,a\nx.png,1\nx.png,0\n", "has 'x.png' more than once"),
        ("file,a\nx.png,0.5\n", "holds the value '0.5': attributes must be 0 or 1, or -1 or 1"),
        ("file,a\nx.png,0\ny.png,-1\n", "holds both 0 and -1"),
    ],
)
def test_unfit_tables_are_told(tmp_path, text, told):
    path = table(tmp_path / "t.csv", text)
    with pytest.raises(UserError, match=re.escape(f"data.init_args.attributes: {path} {told}")):
        AttributeTable(path)


def test_absent_and_binary_tables_are_told(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv cannot be read"):
        AttributeTable(str(tmp_path / "none.csv"))
    (tmp_path / "b.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match=r"b\.csv cannot be read"):
        AttributeTable(str(tmp_path / "b.csv"))
