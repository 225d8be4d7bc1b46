import io
import json
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.commands.evaluate_samples import evaluate_samples
from lightning_gen.commands.parsers import main
from lightning_gen.errors import UserError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*biased upwards.*"),
    pytest.mark.filterwarnings("ignore:.*is not the published.*"),
]
INCEPTION = "{{class_path: InceptionV3, init_args: {{feature: '{}'}}}}"


def blobs(n, seed, low=0, channels=3):
    """(n, 16, 16, channels) smooth uint8 images that differ in colour and texture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(low, 256, (n, 4, 4, channels)) * rng.uniform(0.3, 1, (n, 1, 1, channels))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


def write(folder, images):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with random weights in the real format, and two sets of images."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Theirs

    root = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    with mock.patch.object(Theirs, "load_state_dict"), io.BytesIO() as nothing:
        torch.save({}, nothing)
        nothing.seek(0)
        network = Theirs("x", ["2048"], feature_extractor_weights_path=nothing)
    # random layers damp what passes them: to features of about 1, and classes that differ
    network.Conv2d_1a_3x3.conv.weight.data *= 50
    network.fc.weight.data *= 2e7
    torch.save(network.state_dict(), root / "weights.pth")
    write(root / "samples", blobs(16, 0, low=30))
    write(root / "real", blobs(14, 1))
    write(root / "few", blobs(4, 2))
    return root


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """Where commands run: what they need is there, and what they write is the test's own."""
    for name in ("samples", "real", "few"):
        (tmp_path / name).symlink_to(made / name)
    monkeypatch.setenv("LIGHTNING_GEN_INCEPTION_WEIGHTS", str(made / "weights.pth"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*words, output="found"):
    """The rows of `evaluate --samples` and their protocol."""
    main(["evaluate", "--accelerator=cpu", f"--output={output}", *words])
    found = json.loads(Path(f"{output}.json").read_text())
    return found["results"], found["protocol"]


def fidelity(**options):
    import torch_fidelity

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.set_num_threads", lambda n: None)
        return torch_fidelity.calculate_metrics(cuda=False, cache=False, verbose=False, save_cpu_ram=True, **options)


def test_folders_give_what_torch_fidelity_gives(made, place):
    ((row,), protocol) = evaluate(
        "--samples=samples",
        "--reference=real",
        f"--extractor={INCEPTION.format(64)}",
        "--metrics=[FID, lightning_gen.metrics.precision_recall.PrecisionRecall,"
        " {class_path: lightning_gen.metrics.kid.KID, init_args: {subsets: 5, subset_size: 10, seed: 2020}}]",
        "--batch_size=10",
    )
    theirs = fidelity(
        input1=str(made / "samples"),
        input2=str(made / "real"),
        fid=True,
        kid=True,
        prc=True,
        kid_subsets=5,
        kid_subset_size=10,
        rng_seed=2020,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(made / "weights.pth"),
        feature_layer_fid="64",
        feature_layer_kid="64",
        feature_layer_prc="64",
    )
    assert row["fid_inception64"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)
    assert row["kid_inception64"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4, abs=1e-9)
    assert row["precision_inception64"] == pytest.approx(theirs["precision"])
    assert row["recall_inception64"] == pytest.approx(theirs["recall"])
    assert 0 < theirs["precision"] < 1
    assert row["samples"] == "samples"
    assert protocol["fid_inception64"]["num_samples"] == 16
    assert protocol["fid_inception64"]["reference"]["num"] == 14


def test_inception_score_needs_no_reference(made, place):
    score = "--metrics=[{class_path: InceptionScore, init_args: {splits: 2}}]"
    ((row,), _) = evaluate("--samples=few", score)
    theirs = fidelity(
        input1=str(made / "few"),
        isc=True,
        isc_splits=2,
        samples_shuffle=False,
        feature_extractor_weights_path=str(made / "weights.pth"),
    )
    assert row["is_inception2048"] == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    assert row["is_inception2048_std"] == pytest.approx(theirs["inception_score_std"], rel=1e-4)
    assert theirs["inception_score_mean"] > 1.01


DIGITS = "--extractor=DigitsClassifier"


@pytest.fixture
def grey(place):
    """Grey images, as the digits classifier takes them, in every form; and statistics of the reference."""
    samples, real = blobs(24, 0, 30, channels=1), blobs(20, 1, channels=1)
    write(place / "grey", samples)
    write(place / "truth", real)
    with zipfile.ZipFile("grey.zip", "w") as archive:
        for file in sorted((place / "grey").iterdir()):
            archive.write(file, f"a/{file.name}")
    np.savez("grey.npz", samples)
    np.save("grey.npy", samples[..., 0])
    np.savez("truth.npz", images=real)
    return place


def test_every_form_gives_the_same_numbers(grey):
    rows = [
        evaluate(f"--samples={samples}", f"--reference={reference}", DIGITS)[0][-1]
        for samples, reference in (
            ("grey", "truth"),
            ("grey.zip", "truth"),
            ("grey.npz", "truth"),
            ("grey.npy", "truth"),
        )
    ]
    names = [name for name in rows[0] if "digits" in name]
    assert names[:2] == ["fid_digits", "kid_digits"]
    assert any(name.startswith("is_digits") for name in names)
    assert "authpct_digits" in names
    for row in rows[1:]:
        assert {name: row[name] for name in names} == {name: rows[0][name] for name in names}
    (row, *_), _ = evaluate("--samples=grey", "--reference=truth.npz", DIGITS, output="npz")
    assert row["fid_digits"] == rows[0]["fid_digits"]


def test_statistics_as_pytorch_fid_writes_them(grey):
    from lightning_gen.metrics import DigitsClassifier

    x = torch.from_numpy(np.load("truth.npz")["images"].transpose(0, 3, 1, 2))
    rows = DigitsClassifier()(x).pooled.double().numpy()
    np.savez("stats.npz", mu=rows.mean(axis=0), sigma=np.cov(rows, rowvar=False))
    ((row,), protocol) = evaluate("--samples=grey", "--reference=stats.npz", DIGITS)
    assert {"fid_digits", "is_digits"} <= set(row)
    assert not {"kid_digits", "authpct_digits"} & set(row)
    assert "not known" in protocol["fid_digits"]["reference"]["imported"]


def test_processes_that_share_the_images_give_the_same(grey):
    """Shares of unequal size, one of them with nothing."""
    from lightning_gen.data.sample_files import open_samples

    one = evaluate("--samples=grey", "--reference=truth", DIGITS)[0][0]
    samples = open_samples("grey", "--samples")
    seen = torch.cat([torch.cat([b["index"] for b in samples.rows("all", r, 5, 3)]) for r in range(5)])
    assert sorted(seen.tolist()) == list(range(24))
    for size in (1, 7):
        again = evaluate("--samples=grey", "--reference=truth", DIGITS, f"--batch_size={size}", output=f"o{size}")[0][0]
        assert again["fid_digits"] == pytest.approx(one["fid_digits"], rel=1e-6)


def test_a_set_that_was_measured_is_not_again_until_it_changes(grey, monkeypatch):
    from lightning_gen.commands import evaluate_samples as module

    calls = []
    measure = module.measure_batches
    monkeypatch.setattr(module, "measure_batches", lambda *a, **k: calls.append(1) or measure(*a, **k))
    words = ("--samples=grey", "--reference=truth", DIGITS)
    first = evaluate(*words)[0]
    assert evaluate(*words)[0] == first
    assert len(calls) == 1
    Image.new("L", (16, 16)).save("grey/003.png")
    (second,), _ = evaluate(*words)
    assert len(calls) == 2
    assert second["fid_digits"] != first[0]["fid_digits"]
    Image.new("L", (16, 16)).save("truth/003.png")
    with pytest.raises(UserError, match="holds numbers of another protocol"):  # another reference
        evaluate(*words)


def test_results_lie_beside_the_samples_and_a_report_shows_them(grey, capsys):
    main(["evaluate", "--samples=grey", "--reference=truth", DIGITS, "--accelerator=cpu", "--report=page"])
    told = capsys.readouterr().out
    for name in ("grey_evaluation.json", "grey_evaluation.csv", "grey_evaluation_neighbours.png"):
        assert (grey / name).is_file()
        assert str(grey / name) in told
    assert "data:image/png" in (grey / "page" / "index.html").read_text()
    main(["evaluate", "--samples=grey", DIGITS, "--accelerator=cpu"])  # of another protocol: beside it
    assert (grey / "grey_evaluation_1.json").is_file()


def test_mixed_images_are_told(grey, capsys):
    Image.new("RGB", (16, 16)).save("truth/003.png")
    evaluate("--samples=grey", "--reference=truth", DIGITS)
    assert "note: --reference truth: 19 of 20 images are grey and are measured as RGB" in capsys.readouterr().out


def test_classes(grey):
    for name, images in (("s", blobs(12, 3, channels=1)), ("r", blobs(20, 4, channels=1))):
        for k in range(2):
            write(grey / name / f"{k}", images[k::2])
    metrics = [{"class_path": "lightning_gen.metrics.class_fid.ClassFID"}]
    options = {"output": "found", "memorisation": False, "report": None, "config": None, "labels": True}
    options |= {"accelerator": "cpu", "devices": 1, "num_nodes": 1}
    changes = {"reference": "r", "extractor": {"class_path": "DigitsClassifier"}, "metrics": metrics}
    evaluate_samples("s", changes, **options)
    (row,) = json.loads(Path("found.json").read_text())["results"]
    for k in range(2):
        ((alone,), _) = evaluate(f"--samples=s/{k}", f"--reference=r/{k}", DIGITS, "--metrics=[FID]", output=f"o{k}")
        assert row[f"cfid_digits_class{k}"] == pytest.approx(alone["fid_digits"], rel=1e-6)
    (grey / "r" / "1").rename(grey / "r" / "2")
    with pytest.raises(UserError, match=r"--reference r has other classes than --samples \(1, 2 only in one\)"):
        evaluate_samples("s", changes, **options)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--samples=nowhere", "--reference=truth"), "--samples nowhere does not exist: give a folder of images"),
        (("--samples=grey", "--reference=nowhere"), "--reference nowhere does not exist: give images, or statistics"),
        (("--samples=grey", "--metrics=[FID]"), "--reference is missing: .* that fid_digits can compare with"),
        (("--samples=grey", "--num_samples=25"), "--samples grey holds 24 images, but 25 are to be used"),
        (("--samples=grey", "--num_samples=0"), "--num_samples is 0: it must be at least 1"),
        (("--samples=grey", "--batch_size=0"), "--batch_size is 0: it must be at least 1"),
        (("--samples=grey", "--seed=1"), "--seed draws samples of a checkpoint"),
        (("--samples=grey", "--config=x.yaml"), "--config x.yaml is laid over a checkpoint's recipe"),
        (("--samples=grey", "--ckpt_path=x.ckpt"), "give either --ckpt_path"),
        (("--samples=grey", "--reference=other.npz"), r"other.npz holds mu \(3,\) and sigma \(3, 3\), but extractor"),
        (
            ("--samples=grey", "--reference=same.npz", "--metrics=[lightning_gen.metrics.kid.KID]"),
            "the reference of kid_digits was made without features, which it needs: make it from the data",
        ),
    ],
)
def test_wrong_options_are_told(grey, words, told):
    np.savez("other.npz", mu=np.zeros(3), sigma=np.eye(3))
    np.savez("same.npz", mu=np.zeros(32), sigma=np.eye(32))
    with pytest.raises(UserError, match=told):
        evaluate(DIGITS, *words)
    assert not Path("found.json").exists()
