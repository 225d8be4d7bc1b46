"""Other ways to draw from a checkpoint: samplers, standing statistics, attributes, walks."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.checkpoints import instantiate
from lightning_gen.commands import run
from lightning_gen.errors import UserError
from lightning_gen.model import GenerativeModel

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}}
NAMES = ["Round", "Thick", "Bright"]


def network(name, **options):
    return {"class_path": f"lightning_gen.networks.{name}", "init_args": options}


def write(path, data, num_classes=None, **options):
    """A checkpoint of an untrained DCGAN with batch norm."""
    image = {"image_size": 8, "channels": 1, "width": 4, "num_classes": num_classes}
    model = {
        "class_path": "lightning_gen.families.GAN",
        "init_args": {
            "generator": network("DCGANGenerator", latent_dim=8, **image),
            "discriminator": network("DCGANDiscriminator", **image),
            "loss": {"class_path": "lightning_gen.losses.NonSaturating"},
            "generator_optimizer": ADAM,
            "discriminator_optimizer": ADAM,
        }
        | options,
    }
    torch.manual_seed(0)
    gan = instantiate(GenerativeModel, model)
    torch.nn.init.normal_(gan.generator.project.weight)
    if "attributes" in options:
        gan.condition.rows.copy_(torch.arange(1024)[:, None] % 2)
    evaluation = {
        "class_path": "lightning_gen.callbacks.Evaluation",
        "init_args": {
            "extractor": {"class_path": "lightning_gen.metrics.DigitsClassifier"},
            "metrics": [{"class_path": "lightning_gen.metrics.FID"}],
            "num_samples": 64,
        },
    }
    config = {"model": model, "data": data, "trainer": {"callbacks": [evaluation]}}
    torch.save({"state_dict": gan.state_dict(), "config": config, "global_step": 1}, path)
    return path


DIGITS = {"class_path": "lightning_gen.data.Digits", "init_args": {"image_size": 8}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checkpoint(place):
    return write(place / "a.ckpt", DIGITS)


def sample(checkpoint, *words, output="samples", num=12):
    run(["sample", f"--ckpt_path={checkpoint}", f"--num={num}", f"--output={output}", "--accelerator=cpu", *words])
    return np.stack(
        [np.asarray(Image.open(p)).astype(float) for p in sorted(checkpoint.parent.glob(f"{output}/0*.png"))]
    )


def told(capsys, words):
    with pytest.raises(SystemExit):
        run(words)
    return " ".join(capsys.readouterr().err.split())


def test_truncated_samples_vary_less(checkpoint):
    plain = sample(checkpoint)
    truncated = sample(checkpoint, "--sampler={class_path: Truncated, init_args: {psi: 0.1}}", output="truncated")
    assert truncated.shape == plain.shape == (12, 8, 8)
    assert truncated.std(axis=0).mean() < 0.5 * plain.std(axis=0).mean()


def test_a_sampler_can_be_named_alone(checkpoint):
    assert not np.array_equal(sample(checkpoint, "--sampler=Truncated", output="truncated"), sample(checkpoint))


def test_standing_statistics_change_samples_whose_statistics_were_never_made(checkpoint):
    plain, standing = sample(checkpoint), sample(checkpoint, "--standing_statistics=4", output="standing")
    assert not np.array_equal(plain, standing)
    assert np.array_equal(standing, sample(checkpoint, "--standing_statistics=4", output="again"))


def test_a_walk_is_drawn(checkpoint, capsys):
    sample(checkpoint, "--walk=3")
    assert "walk samples/walk.png" in capsys.readouterr().out
    with Image.open(checkpoint.parent / "samples" / "walk.png") as picture:
        assert picture.size == (2 + 8 * 10, 2 + 3 * 10)


def test_a_walk_obeys_classes(place):
    checkpoint = write(place / "classes.ckpt", DIGITS, 10)

    def walked(*words, output):
        sample(checkpoint, "--walk=2", *words, output=output)
        with Image.open(place / output / "walk.png") as picture:
            return np.asarray(picture)

    drawn, asked = walked(output="drawn"), walked("--classes=7,3", output="asked")
    assert drawn.shape == asked.shape
    assert not np.array_equal(drawn, asked)
    assert np.array_equal(asked, walked("--classes=7,3", output="again"))


def test_what_cannot_be_drawn_so_is_told(checkpoint, capsys):
    start = ["sample", f"--ckpt_path={checkpoint}", "--accelerator=cpu"]
    assert "--standing_statistics is -1" in told(capsys, [*start, "--standing_statistics=-1"])
    assert "--walk is -1" in told(capsys, [*start, "--walk=-1"])
    assert "not conditioned on attributes" in told(capsys, [*start, "--attributes=Round"])
    assert "Truncated.psi is -2" in told(capsys, [*start, "--sampler={class_path: Truncated, init_args: {psi: -2}}"])
    assert "sampler names 'Trunkated'" in told(capsys, [*start, "--sampler=Trunkated"])


def test_numbers_tell_how_samples_were_drawn(checkpoint):
    def evaluate(*words, output):
        run(
            [
                "evaluate",
                f"--ckpt_path={checkpoint}",
                f"--output={output}",
                "--accelerator=cpu",
                "--no_memorisation",
                *words,
            ]
        )
        content = json.loads((checkpoint.parent / f"{output}.json").read_text())
        return content["results"][0]["fid_digits"], content["protocol"]["fid_digits"]

    plain, protocol = evaluate(output="plain")
    assert not {"sampler", "standing_statistics"} & protocol.keys()
    truncated, protocol = evaluate("--sampler={class_path: Truncated, init_args: {psi: 0.1}}", output="truncated")
    assert "psi" in protocol["sampler"]
    assert truncated != plain
    standing, protocol = evaluate("--standing_statistics=2", output="standing")
    assert protocol["standing_statistics"] == 2
    assert standing != plain


def test_one_table_does_not_mix_ways_of_drawing(checkpoint, capsys):
    words = ["evaluate", f"--ckpt_path={checkpoint}", "--output=found", "--accelerator=cpu", "--no_memorisation"]
    run(words)
    assert "sampler" in told(capsys, [*words, "--sampler=Truncated"])


@pytest.fixture
def faces(place):
    """A folder of images with attributes, and a checkpoint of a model for them."""
    rng = np.random.default_rng(0)
    with open(place / "attributes.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *NAMES])
        (place / "faces").mkdir()
        for k in range(16):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(place / "faces" / f"{k:03d}.png")
            writer.writerow([f"{k:03d}.png", k % 2, k % 2, 1])
    data = {
        "class_path": "lightning_gen.data.ImageFolder",
        "init_args": {"path": "faces", "image_size": 8, "channels": 1, "attributes": "attributes.csv"},
    }
    return write(place / "faces.ckpt", data, 3, attributes=NAMES)


def test_samples_are_drawn_by_attribute(faces):
    drawn = sample(faces)
    asked = sample(faces, "--attributes=Round,-Thick", output="asked")
    assert not np.array_equal(drawn, asked)
    from lightning_gen.checkpoints import load
    from lightning_gen.noise import sample_seeds

    model, data, _ = load(faces)
    y = torch.tensor([[1.0, 0.0, -1.0]]).repeat(12, 1)
    batch = model.draw(12, y, seeds=sample_seeds(0, torch.arange(12)))
    assert batch["y"][:, :2].unique(dim=0).tolist() == [[1.0, 0.0]]
    assert set(batch["y"][:, 2].tolist()) == {0.0, 1.0}
    assert np.array_equal(asked, data.modality.quantise(batch["x"])[:, 0].numpy())


def test_attributes_that_do_not_exist_are_told(faces, capsys):
    start = ["sample", f"--ckpt_path={faces}", "--accelerator=cpu"]
    assert "--attributes names 'Rund'" in told(capsys, [*start, "--attributes=Rund"])
    assert "--classes and --attributes are both given" in told(capsys, [*start, "--attributes=Round", "--classes=1"])


def test_a_model_of_attributes_learns_how_they_occur(faces, make_trainer):
    from lightning_gen.checkpoints import load

    model, data, _ = load(faces)
    data.batch_size = 8
    make_trainer(max_steps=2).fit(model.train(), data)
    rows = model.condition.rows
    assert set(map(tuple, rows.unique(dim=0).tolist())) == {(0, 0, 1), (1, 1, 1)}
    assert abs(rows[:, 0].float().mean().item() - 0.5) < 0.1
    with pytest.raises(UserError, match="conditioned on attributes"):
        model.sample(2, torch.zeros(2))
