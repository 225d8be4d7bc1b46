import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lightning_gen.commands.parsers import main
from lightning_gen.data import Digits
from lightning_gen.errors import UserError
from lightning_gen.metrics import DigitsClassifier
from lightning_gen.metrics.reference_file import read_reference

pytestmark = pytest.mark.filterwarnings("ignore:.*biased upwards.*")
EVERYTHING = frozenset({"features", "spatial"})
DIGITS = "--extractor=DigitsClassifier"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where commands run, with images in two classes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, n in (("images/a", 9), ("images/b", 7), ("samples", 12)):
        Path(name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"{name}/{i}.png")
    return tmp_path


def reference(*words, output="made.safetensors"):
    main(["reference", "--accelerator=cpu", f"--output={output}", *words])
    found = read_reference(Path(output), EVERYTHING - {"spatial"}) or read_reference(Path(output))
    assert found is not None
    return found


def evaluate(*words, output="found"):
    main(["evaluate", "--accelerator=cpu", f"--output={output}", "--samples=samples", DIGITS, *words])
    (row,) = json.loads(Path(f"{output}.json").read_text())["results"]
    return {name: value for name, value in row.items() if "digits" in name}


def test_a_reference_made_ahead_gives_the_same_numbers(place, capsys):
    found = reference("--data=images", DIGITS)
    assert "made.safetensors: moments, features of 16 rows by digits" in capsys.readouterr().out
    assert (found.n, found.y, found.protocol["split"]) == (16, None, "all")
    ahead = evaluate("--reference=made.safetensors")
    assert ahead == evaluate("--reference=images", output="direct")
    assert {"fid_digits", "kid_digits", "authpct_digits"} <= ahead.keys()


def test_without_features_the_file_is_small_and_serves_fid(place):
    whole = reference("--data=images", DIGITS)  # in the cache now, features included
    found = reference("--data=images", DIGITS, "--no_features", output="small.safetensors")
    assert found.features is None
    assert torch.equal(found.cov, whole.cov)
    values = evaluate("--reference=small.safetensors")
    assert "kid_digits" not in values
    assert values["fid_digits"] == evaluate("--reference=made.safetensors", output="b")["fid_digits"]


def test_classes_and_the_first_rows(place):
    found = reference("--data=images", DIGITS, "--labels", "--num=12", "--batch_size=5", "--num_workers=0")
    assert found.y.tolist() == [0] * 9 + [1] * 3
    assert found.protocol["class_names"] == ["a", "b"]
    assert len(found.features) == found.n == 12


RECIPE = {
    "data": {"class_path": "Digits", "init_args": {"image_size": 8}},
    "trainer": {
        "callbacks": [
            {"class_path": "SampleGrid"},
            {
                "class_path": "lightning_gen.callbacks.Evaluation",
                "init_args": {"extractor": "DigitsClassifier", "metrics": ["FID"], "split": "val", "num_reference": 60},
            },
        ]
    },
}


def recipe(**trainer):
    Path("recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"trainer": RECIPE["trainer"] | trainer}))
    return "--config=recipe.yaml"


def test_the_data_of_a_recipe(place):
    found = reference(recipe())
    data = Digits(image_size=8)
    data.prepare_data()
    expected = DigitsClassifier()(data.split("val")[torch.arange(60)]["x"]).pooled
    torch.testing.assert_close(found.features, expected)
    assert (found.n, found.protocol["split"]) == (60, "val")
    assert found.y.tolist() == data.split("val")[torch.arange(60)]["y"].tolist()
    other = reference("--config=recipe.yaml", "--split=train", "--num=30")
    torch.testing.assert_close(
        other.mean, DigitsClassifier()(data.split("train")[torch.arange(30)]["x"]).pooled.double().mean(0)
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give either --data, a folder, .* or --config, a recipe"),
        (("--data=images", "--config=recipe.yaml"), "give either --data"),
        (("--data=nowhere", DIGITS), "--data nowhere does not exist"),
        (("--data=images", DIGITS, "--split=val"), "--split val is one of a recipe's, but --data images is one set"),
        (("--data=images", DIGITS, "--num=1"), "--num is 1: it must be at least 2"),
        (("--data=images", DIGITS, "--num=17"), "--data images holds 16 images, but 17 are to be used"),
        (("--data=images", DIGITS, "--batch_size=0"), "--batch_size is 0"),
        (("--data=images", DIGITS, "--spatial"), "--spatial is set, but extractor 'digits' has no spatial features"),
        (("--data=images", DIGITS, "--output=made.npz"), r"--output made.npz must end in .safetensors"),
        (("--data=images", DIGITS, "--output=images/a/0.png/made.safetensors"), "cannot be written"),
        (("--config=nowhere.yaml",), "--config nowhere.yaml cannot be read"),
        (("--config=empty.yaml",), "--config empty.yaml has no data"),
        (("--config=recipe.yaml", "--labels"), "--labels takes the folders of --data for classes"),
        (("--config=recipe.yaml", "--split=x"), "Digits has no split 'x'"),
        (("--config=plain.yaml",), "the recipe has no Evaluation callback: name an --extractor"),
        (("--config=two.yaml",), "the recipe evaluates by several extractors, but a file holds one"),
    ],
)
def test_wrong_options_are_told(place, words, told):
    recipe()
    Path("empty.yaml").write_text("model: GAN")
    Path("plain.yaml").write_text(yaml.safe_dump({"data": RECIPE["data"]}))
    two = [
        {"class_path": "Evaluation", "init_args": {"extractor": name}} for name in ("DigitsClassifier", "InceptionV3")
    ]
    Path("two.yaml").write_text(yaml.safe_dump({"data": "Digits", "trainer": {"callbacks": two}}))
    with pytest.raises(UserError, match=told):
        reference(*words)
    assert not Path("made.safetensors").exists()
