import contextlib
import hashlib
import os
import socket
import threading
import time

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.metrics.extractors import inception_weights
from lightning_gen.metrics.extractors.inception_weights import FILE_NAMES, VARIABLE

BYTES = b"the published weights" * 1000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of torch hub, a small published file, a server that nobody runs, and little patience."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(inception_weights, "SHA256", hashlib.sha256(BYTES).hexdigest())
    monkeypatch.setattr(inception_weights, "NUM_BYTES", len(BYTES))
    monkeypatch.setattr(inception_weights, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(inception_weights, "URL", "http://127.0.0.1:9/weights.pth")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def serve(monkeypatch):
    """A function that starts a server which sends the given bytes, then says nothing more until the test ends."""
    with contextlib.ExitStack() as stack:

        def start(answer, hang_up=False):
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            monkeypatch.setattr(inception_weights, "URL", f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth")

            def run():
                connection, _ = server.accept()
                stack.callback(connection.close)
                with contextlib.suppress(OSError):  # the client may have left
                    connection.recv(4096)
                    connection.sendall(answer)
                    if hang_up:
                        connection.shutdown(socket.SHUT_RDWR)

            threading.Thread(target=run, daemon=True).start()

        yield start


def response(body, length=None):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(BYTES) if length is None else length) + body


@pytest.mark.parametrize("name", FILE_NAMES)
def test_the_cache_is_searched_under_both_usual_names(cache, name):
    assert inception_weights.find_local() is None
    (cache / name).write_bytes(BYTES)
    assert inception_weights.find_weights() == cache / name


def test_named_files_come_first_and_may_hold_other_weights(cache, tmp_path, monkeypatch):
    (cache / FILE_NAMES[0]).write_bytes(BYTES)
    own, other = tmp_path / "own.pth", tmp_path / "other.pth"
    own.write_bytes(b"mine")
    other.write_bytes(BYTES)
    monkeypatch.setenv(VARIABLE, str(other))
    assert inception_weights.find_weights() == other  # the published bytes: no warning
    with pytest.warns(UserWarning, match=r"weights_path .*own\.pth is not the published .*cannot be compared") as told:
        assert inception_weights.find_weights(str(own)) == own
    assert len(told) == 1
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=rf"\${VARIABLE} is .*nowhere.*no such file"):
        inception_weights.find_weights()
    with pytest.raises(UserError, match=r"weights_path is 'gone\.pth', but there is no such file"):
        inception_weights.find_weights("gone.pth")


def test_published_is_the_hash_alone(monkeypatch):
    monkeypatch.undo()
    assert inception_weights.is_published("6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2")
    assert not inception_weights.is_published("6726825d" + 56 * "0")


@pytest.mark.parametrize(("body", "guess"), [(BYTES[:500], "cut short"), (BYTES[:-1] + b"x", "another file")])
def test_damaged_cached_weights_are_refused_in_one_sentence(cache, body, guess):
    (cache / FILE_NAMES[0]).write_bytes(body)
    with pytest.raises(UserError) as error:
        inception_weights.find_weights()
    for part in (
        str(cache / FILE_NAMES[0]),
        f"{len(body):,} bytes",
        f"{len(BYTES):,} bytes",
        hashlib.sha256(body).hexdigest(),
        guess,
        "delete it",
        "lightning_gen weights fetch",
    ):
        assert part in str(error.value)
    (cache / FILE_NAMES[1]).write_bytes(BYTES)  # a whole one under the other name will do
    assert inception_weights.find_weights() == cache / FILE_NAMES[1]


def test_download(cache, serve):
    serve(response(BYTES))
    path = inception_weights.find_weights()
    assert path == cache / FILE_NAMES[0]
    assert path.read_bytes() == BYTES
    assert os.listdir(cache) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("answer", "hang_up", "reason"),
    [
        (b"", False, "no answer within|timed out"),
        (b"HTTP/1.1 200 OK\r\n", False, "no answer within|timed out"),
        (response(b""), False, "no answer within|timed out"),
        (response(BYTES[:700]), False, "timed out"),
        (response(BYTES[:700]), True, "another SHA-256"),
        (response(b"x" * len(BYTES)), True, "another SHA-256"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", True, "404"),
        (b"this is not HTTP\r\n\r\n", True, "no proper answer"),
        (b"", True, "closed|reset|disconnected"),
    ],
    ids=["mute", "half-headers", "no-body", "stalled", "cut-short", "wrong", "absent", "no-http", "hung-up"],
)
def test_bad_servers_end_soon_in_one_sentence(cache, serve, answer, hang_up, reason):
    serve(answer, hang_up)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"(?i){reason}"):
        inception_weights.find_weights()
    assert time.monotonic() - start < 3  # of 0.5 s to answer and 0.5 s without a byte
    assert not os.listdir(cache)


def test_names_that_are_not_looked_up_end_soon(cache, monkeypatch):
    monkeypatch.setattr(inception_weights, "URL", "http://weights.invalid/weights.pth")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(20))
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        inception_weights.find_weights()
    assert time.monotonic() - start < 3
    for part in (
        FILE_NAMES[0],
        f"{len(BYTES):,} bytes",
        inception_weights.SHA256,
        "http://weights.invalid/weights.pth",
        "weights_path",
        f"${VARIABLE} (not set)",
        str(cache),
        "no answer within",
        "DigitsClassifier or Raw",
    ):
        assert part in str(error.value)


def test_patience_fits_into_ten_seconds(monkeypatch):
    monkeypatch.undo()
    assert 2 * inception_weights._ANSWER_SECONDS <= 6  # the rest is for the start of the command


def test_reading_runs_nothing_and_names_the_file(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "w.pth"
    torch.save({"Conv2d_1a_3x3.conv.weight": Trap()}, path)
    with pytest.raises(UserError, match=r"w\.pth cannot be read as a state dict"):
        inception_weights.read_weights(path)
    assert not (tmp_path / "sprung").exists()
    torch.save({"layer": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="does not hold the state dict of the FID Inception"):
        inception_weights.read_weights(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(UserError, match="does not hold a state dict"):
        inception_weights.read_weights(path)
