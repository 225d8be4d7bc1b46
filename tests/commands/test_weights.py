import hashlib
import json
import os
import sys

import pytest

from lightning_gen.__main__ import main
from lightning_gen.metrics.extractors import inception_weights
from lightning_gen.metrics.extractors.digits_classifier import WEIGHTS
from lightning_gen.metrics.extractors.inception_weights import FILE_NAMES, VARIABLE

BYTES = b"the published weights" * 1000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Empty caches, a small published file, and a server that does not exist."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(inception_weights, "SHA256", hashlib.sha256(BYTES).hexdigest())
    monkeypatch.setattr(inception_weights, "NUM_BYTES", len(BYTES))
    monkeypatch.setattr(inception_weights, "URL", "http://127.0.0.1:9/weights.pth")
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server, played by a file."""
    path = tmp_path / "server.pth"
    path.write_bytes(BYTES)
    monkeypatch.setattr(inception_weights, "URL", path.as_uri())


@pytest.fixture
def command(capsys):
    """A function that runs `lightning_gen weights …`: its status, output and errors."""

    def run(*words):
        try:
            main(["weights", *words])
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


def row(output, *words):
    """The one line of a table that holds these words."""
    (line,) = [line for line in output.splitlines() if all(word in line for word in words)]
    return line


def test_check_says_where_it_looked(command, cache):
    status, output, error = command("check")
    assert status == 2
    assert row(output, "InceptionV3", f"${VARIABLE}").endswith("not set")
    for name in FILE_NAMES:
        assert row(output, "InceptionV3", str(cache / name)).endswith("absent")
    line = row(output, "DigitsClassifier", str(WEIGHTS))
    assert f"{WEIGHTS.stat().st_size:,}" in line
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in line
    assert line.endswith("OK")
    assert row(output, "DINOv2", "facebook/dinov2-large")
    assert row(output, "CLIP", "openai/clip-vit-large-patch14-336")
    assert error.startswith("error: InceptionV3: its weights")
    assert error.count("\n") == 1
    assert "downloads nothing" in error
    assert not cache.exists()


def test_check_is_content_with_the_published_file(command, cache):
    cache.mkdir(parents=True)
    (cache / FILE_NAMES[1]).write_bytes(BYTES)
    status, output, error = command("check")
    assert (status, error) == (0, "")
    line = row(output, FILE_NAMES[1])
    assert f"{len(BYTES):,}" in line
    assert line.endswith(f"{hashlib.sha256(BYTES).hexdigest()}  OK")


def test_check_tells_damaged_and_other_files(command, cache, tmp_path, monkeypatch):
    cache.mkdir(parents=True)
    (cache / FILE_NAMES[0]).write_bytes(BYTES[:99])
    status, output, error = command("check", "--extractor", "InceptionV3")
    assert status == 2
    assert row(output, FILE_NAMES[0]).endswith("not the published file")
    assert "cut short" in error
    assert "DINOv2" not in output
    other = tmp_path / "other.pth"
    other.write_bytes(b"mine")
    monkeypatch.setenv(VARIABLE, str(other))
    status, output, error = command("check")
    assert status == 2
    assert row(output, f"${VARIABLE}: {other}").endswith("not the published file")
    assert "values are not either" in error


def test_check_of_those_named(command):
    status, output, error = command("check", "--extractor", "DigitsClassifier")
    assert (status, error) == (0, "")
    assert "InceptionV3" not in output
    status, _, error = command("check", "--extractor", "DigitsClassifier, InceptionV3")
    assert status == 2
    status, _, error = command("check", "--extractor", "InceptionV4")
    assert (status, error.strip()) == (
        2,
        "error: --extractor InceptionV4 has no weights to check (did you mean 'InceptionV3'?): use any of InceptionV3, "
        "DigitsClassifier, DINOv2, CLIP",
    )


def test_check_without_transformers(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    status, output, error = command("check", "--extractor", "CLIP")
    assert status == 2
    assert "pip install 'lightning_gen[huggingface]'" in row(output, "CLIP", "openai")
    assert error.startswith("error: CLIP needs the package transformers")


def test_check_of_the_hub(command, monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    status, output, error = command("check", "--extractor", "CLIP")
    assert status == 2
    assert row(output, "CLIP", str(tmp_path)).endswith("absent")
    assert "weights fetch --extractor CLIP --output FOLDER" in error
    snapshot = tmp_path / "models--openai--clip-vit-large-patch14-336" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (snapshot / "pytorch_model.bin").write_bytes(BYTES)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    status, output, error = command("check", "--extractor", "CLIP")
    assert (status, error) == (0, "")
    assert hashlib.sha256(BYTES).hexdigest() in row(output, "CLIP", "pytorch_model.bin")


@pytest.mark.usefixtures("published")
def test_fetch_into_the_cache_replaces_what_is_damaged(command, cache):
    status, output, _ = command("fetch")
    assert status == 0
    assert output.splitlines()[-1].endswith(f"{len(BYTES):,} bytes, SHA-256 {hashlib.sha256(BYTES).hexdigest()}, OK")
    assert (cache / FILE_NAMES[0]).read_bytes() == BYTES
    (cache / FILE_NAMES[0]).write_bytes(BYTES[:99])
    assert command("fetch")[0] == 0
    assert (cache / FILE_NAMES[0]).read_bytes() == BYTES
    assert command("check")[0] == 0


@pytest.mark.usefixtures("published")
def test_fetch_to_a_file_or_folder_and_only_once(command, tmp_path, monkeypatch):
    target = tmp_path / "new" / "inception.pth"
    assert command("fetch", "--output", str(target))[0] == 0
    assert target.read_bytes() == BYTES
    (tmp_path / "folder").mkdir()
    assert command("fetch", "--output", str(tmp_path / "folder"))[0] == 0
    assert os.listdir(tmp_path / "folder") == [FILE_NAMES[0]]
    monkeypatch.setattr(inception_weights, "URL", "http://127.0.0.1:9/weights.pth")
    assert command("fetch", "--output", str(target))[0] == 0  # it is there already
    target.write_bytes(b"something precious")
    status, _, error = command("fetch", "--output", str(target))
    assert status == 2
    assert f"--output {target} exists and is another file" in error
    assert target.read_bytes() == b"something precious"


def test_fetch_without_network(command, cache):
    status, _, error = command("fetch")
    assert status == 2
    assert error.count("\n") == 1
    for part in (
        "127.0.0.1:9",
        "refused",
        inception_weights.SHA256,
        f"{len(BYTES):,} bytes",
        "DigitsClassifier or Raw",
    ):
        assert part in error
    assert not list(cache.iterdir())


def test_what_cannot_be_fetched(command, tmp_path):
    for words, part in (
        (["fetch", "--extractor", "DigitsClassifier"], "nothing to fetch"),
        (["fetch", "--extractor", "DINOv2,CLIP", "--output", str(tmp_path)], "fetch DINOv2, CLIP one by one"),
        (["check", "--output", str(tmp_path)], "leave it out of `weights check`"),
        (["chek"], "action is 'chek': it must be one of 'check', 'fetch'"),
        ([], "action is required"),
    ):
        status, _, error = command(*words)
        assert status == 2
        assert part in error
