import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `metrics_fakes` and `metrics_workers`, also in spawned processes


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch):
    monkeypatch.delenv("LIGHTNING_GEN_INCEPTION_WEIGHTS", raising=False)
