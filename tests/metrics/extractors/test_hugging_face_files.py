import hashlib
import socket
import sys
import time

import pytest

from lightning_gen.errors import UserError
from lightning_gen.metrics.extractors import hugging_face_files
from lightning_gen.metrics.extractors.dinov2 import DINOv2

WEIGHTS = b"not read here"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub and little patience."""
    pytest.importorskip("transformers")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hugging_face_files, "_ANSWER_SECONDS", 0.5)
    return tmp_path


def fill(hub, sha256):
    """Keep a model in the cache of the hub as DINOv2's, its files named by this SHA-256 of the weights."""
    root = hub / "models--facebook--dinov2-large"
    snapshot = root / "snapshots" / ("0" * 40)
    for path in (snapshot, root / "blobs", root / "refs"):
        path.mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    for name, blob in (("config.json", "c" * 40), ("model.safetensors", sha256)):
        (root / "blobs" / blob).write_bytes(WEIGHTS)
        (snapshot / name).symlink_to(root / "blobs" / blob)
    return snapshot


def test_the_cache_of_the_hub_comes_before_the_hub(hub):
    assert hugging_face_files.find_local("facebook/dinov2-large", "DINOv2") is None
    snapshot = fill(hub, hashlib.sha256(WEIGHTS).hexdigest())
    assert hugging_face_files.find_model("facebook/dinov2-large", "DINOv2") == snapshot


def test_damaged_weights_in_the_cache_of_the_hub(hub):
    fill(hub, "ab" * 32)
    with pytest.raises(UserError, match=r"model\.safetensors .* has another SHA-256 than abab.*delete it"):
        DINOv2().prepare()


@pytest.mark.parametrize("network", ["silent", "refused", "offline"])
def test_no_hub_ends_soon_in_one_sentence(hub, monkeypatch, network):
    from huggingface_hub import constants

    def look_up(*args, **kwargs):
        if network == "silent":
            time.sleep(20)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", network == "offline")
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        DINOv2().prepare()
    assert time.monotonic() - start < 5
    for part in ("DINOv2", "facebook/dinov2-large", str(hub), "https://huggingface.co", "model.safetensors", "Raw"):
        assert part in str(error.value)


def test_without_transformers(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    sentence = r"DINOv2 needs the package transformers.*pip install 'lightning_gen\[huggingface\]'"
    with pytest.raises(UserError, match=sentence):
        DINOv2().prepare()
    with pytest.raises(UserError, match=sentence):
        DINOv2(str(tmp_path))
