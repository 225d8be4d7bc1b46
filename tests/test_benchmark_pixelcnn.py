"""The benchmark of drawing pixel by pixel runs, and says what it measured."""

import importlib.util
import json
import sys
from pathlib import Path

PATH = Path(__file__).parents[1] / "scripts" / "benchmark_pixelcnn.py"


def test_it_measures_both_ways(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("benchmark_pixelcnn", PATH)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    output = tmp_path / "benchmark.json"
    words = "--networks gated --sizes 4 8 --batch_size 2 --rounds 1 --plain_pixels 8 --device cpu --threads 1"
    monkeypatch.setattr(sys, "argv", [str(PATH), *words.split(), "--output", str(output)])
    benchmark.main()
    content = json.loads(output.read_text())
    assert content["table"] in capsys.readouterr().out
    for size in ("4", "8"):
        found = content["results"]["gated"][size]
        assert found["factor"] > 0
        assert found["kept_s"] > 0
        assert found["plain_s"] > 0
