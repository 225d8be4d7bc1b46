import csv
import json

import pytest

from lightning_gen.commands.results import Results, by_run, differing, interval, number, output_path, table
from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import STUDENT_95

PROTOCOL = {
    "fid_x": {"num_samples": 100, "higher_is_better": False},
    "is_x": {"num_samples": 100, "higher_is_better": True},
}


def row(step, fid, score=2.0, run="a", **more):
    return {
        "checkpoint": f"runs/{run}/checkpoints/step={step}.ckpt",
        "step": step,
        "weights": "ema",
        "sha256": str(step),
        "fid_x": fid,
        "fid_x_jackknife": fid - 0.5,
        "fid_x_se": 0.1,
        "is_x": score,
        **more,
    }


def test_rows_are_written_as_they_come_and_sorted(tmp_path):
    results = Results(tmp_path / "evaluation", PROTOCOL)
    results.add(row(20, 3.0))
    results.add(row(10, 5.0, neighbours=[{"sample": 1, "row": 2}]))
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert [r["step"] for r in found["results"]] == [10, 20]
    assert found["protocol"] == PROTOCOL
    assert found["best"]["fid_x"] == {
        "checkpoint": "runs/a/checkpoints/step=20.ckpt",
        "step": 20,
        "weights": "ema",
        "fid_x": 3.0,
        "fid_x_jackknife": 2.5,
        "fid_x_se": 0.1,
    }
    with (tmp_path / "evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["fid_x"] for r in rows] == ["5.0", "3.0"]
    assert "neighbours" not in rows[0]
    assert {p.name for p in tmp_path.iterdir()} == {"evaluation.json", "evaluation.csv"}
    assert results.draw().read_bytes().startswith(b"\x89PNG")


def test_an_earlier_sweep_is_taken_up(tmp_path):
    Results(tmp_path / "e", PROTOCOL).add(row(10, 5.0))
    results = Results(tmp_path / "e", PROTOCOL)
    known = {"checkpoint": "runs/a/checkpoints/step=10.ckpt", "sha256": "10", "weights": "ema"}
    assert results.find(**known)["fid_x"] == 5.0
    assert results.find(**known | {"sha256": "other"}) is None
    results.add(row(20, 4.0))
    results.add(row(10, 4.5) | {"sha256": "other"})  # the checkpoint was written anew
    assert [r["fid_x"] for r in Results(tmp_path / "e", PROTOCOL).rows] == [4.5, 4.0]


def test_another_protocol_or_file_is_not_overwritten(tmp_path):
    Results(tmp_path / "e", PROTOCOL).add(row(10, 5.0))
    other = {**PROTOCOL, "fid_x": {"num_samples": 50, "higher_is_better": False}}
    with pytest.raises(UserError, match=r"another protocol \(fid_x\.num_samples 100, not 50\)"):
        Results(tmp_path / "e", other)
    (tmp_path / "f.json").write_text("[1]")
    with pytest.raises(UserError, match="holds no results"):
        Results(tmp_path / "f", PROTOCOL)


def test_what_is_not_a_number_is_valid_json(tmp_path):
    results = Results(tmp_path / "e", PROTOCOL)
    results.add(row(10, float("nan")))
    results.add(row(20, 3.0))
    text = (tmp_path / "e.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["results"][0]["fid_x"] is None
    assert results.best()["fid_x"]["step"] == 20
    results.draw()
    assert "–" in table(results.rows)


def test_table_and_numbers():
    rows = [row(10, 19.61666), row(2000, 3.0, is_x_std=0.25)]
    assert number(rows[0], "fid_x_jackknife") == "19.12 ± 0.21"  # 2.093 standard errors
    assert number(rows[0], "is_x") == "2"
    lines = table(rows).splitlines()
    assert lines[0].split() == ["checkpoint", "step", "weights", "fid_x", "fid_x_jackknife", "is_x", "is_x_std"]
    assert lines[1].split()[-1] == "–"
    assert lines[2].split()[-1] == "0.25"


def test_runs_and_differences():
    rows = [row(1, 1.0), row(1, 2.0, run="b"), row(2, 1.0)]
    assert {label: len(r) for label, r in by_run(rows).items()} == {"runs/a": 2, "runs/b": 1}
    assert differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}) == "a.b 1, not 3"
    assert differing({"a": {"b": 1}}, {"c": 2}) == 'a {"b": 1}, not null; c null, not 2'


def test_values_keep_the_best_by_their_direction(tmp_path):
    results = Results(tmp_path / "e", PROTOCOL)
    for step, fid, score in ((1, 3.0, 5.0), (2, 1.0, 4.0), (3, 2.0, 6.0)):
        results.add(row(step, fid, score))
    assert {name: r["step"] for name, r in results.best().items()} == {"fid_x": 2, "is_x": 3}


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (19.6239, 0.8123, "19.62 ± 0.81"),
        (412.73, 12.4, "413 ± 12"),
        (41234.5, 123.4, "41234 ± 123"),
        (9.69812, 0.0996, "9.70 ± 0.10"),
        (0.5, 0.00123, "0.5000 ± 0.0012"),
        (19.6239, None, "19.624"),
        (1234567.0, None, "1234567"),
        (0.0, None, "0"),
        (3, None, "3"),
        (1.25, 0.0, "1.25"),
        (1.25, 1e-12, "1.25 ± 1e-12"),
        (None, None, "–"),
    ],
)
def test_digits_follow_the_interval(value, half, text):
    row = {"v": value} | ({} if half is None else {"v_se": half / STUDENT_95})
    assert number(row, "v") == text


def test_two_jobs_that_write_one_file_keep_each_others_rows(tmp_path):
    first, second = Results(tmp_path / "e", PROTOCOL), Results(tmp_path / "e", PROTOCOL)
    first.add(row(10, 5.0))
    second.add(row(20, 4.0))
    assert [r["step"] for r in Results(tmp_path / "e", PROTOCOL).rows] == [10, 20]


def test_raw_and_averaged_weights_are_two_curves(tmp_path):
    results = Results(tmp_path / "e", PROTOCOL)
    results.add(row(10, 5.0))
    results.add(row(10, 4.0, weights="raw"))
    assert list(by_run(results.rows)) == ["runs/a (ema weights)", "runs/a (raw weights)"]
    assert results.best()["fid_x"]["weights"] == "raw"
    assert results.best(results.rows[:1])["fid_x"]["fid_x"] == 5.0


def test_the_interval_is_around_the_jackknife_estimate():
    assert interval(row(10, 5.0), "fid_x") == pytest.approx((4.5 - 0.2093, 4.5 + 0.2093))
    assert interval({"v": 1.0, "v_se": 0.1}, "v") == pytest.approx((1 - 0.2093, 1 + 0.2093))
    assert interval(row(10, 5.0), "is_x") is None
    assert number(row(10, 5.0), "fid_x") == "5"
    assert number(row(10, 5.0), "fid_x_jackknife") == "4.50 ± 0.21"


def test_what_output_means():
    names = ("run_v0.5", "run.json", "run.csv", "run")
    assert [str(output_path(name)) for name in names] == ["run_v0.5", "run", "run", "run"]
