"""The script that tabulates a metric against evaluations of the network."""

import importlib.util
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from recipes import ROOT, checkpoint_of

SCRIPT = ROOT.parent / "scripts" / "report_evaluations.py"


def test_a_table_of_steps_and_samplers(tmp_path, capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("report_evaluations", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    path = checkpoint_of(ROOT / "diffusion" / "ddpm_moons.yaml", tmp_path / "model.ckpt", narrower=True)
    asked = []

    def measured(sampler, target, options, more):
        asked.append((sampler, target.name, more))
        return 1.5

    monkeypatch.setattr(script, "measured", measured)
    words = ["--samplers", "Heun", "{class_path: DDIM, init_args: {eta: 0.5}}", "--steps", "3", "600"]
    script.main(["--ckpt_path", str(path), *words, "--output", str(tmp_path / "files"), "--num_samples", "9"])
    told = capsys.readouterr()
    assert told.out.splitlines()[2:] == ["| 3 | 1.50 (5) | 1.50 (3) |", "| 600 |  | 1.50 (600) |"]
    assert "takes 1199 evaluations" in told.err
    assert asked[1] == ({"class_path": "DDIM", "init_args": {"eta": 0.5, "steps": 3}}, "1_3", ["--num_samples", "9"])
