import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lightning_gen import __version__
from lightning_gen.commands.report import Entry, write_report
from lightning_gen.commands.report.curves import charts
from lightning_gen.commands.report.facts import facts_of
from lightning_gen.commands.report.tables import Column, cells, columns_of, short_labels
from lightning_gen.metrics.blocks import STUDENT_95

REFERENCE = {"split": "train", "limit": None, "fingerprint": "f" * 64, "num": 1797}
EXTRACTOR = {"extractor": "digits", "weights_sha256": "9742" * 16, "resize": "bilinear, to 16x16"}
COMMON = {"extractor": EXTRACTOR, "num_samples": 10000, "seed": 7}
PROTOCOL = {
    "fid_digits": {"metric": "fid", "higher_is_better": False, "reference": REFERENCE, **COMMON},
    "is_digits": {"metric": "is", "higher_is_better": True, "splits": 10, **COMMON},
}
VOID = {"meta", "link", "img", "br", "wbr", "hr", "input"}


class Page(HTMLParser):
    """Elements with their attributes, the text inside tags, and whether every tag was closed in order."""

    def __init__(self, path):
        super().__init__()
        self.text, self.elements, self.open, self.tables = "", [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]


def rows_of(run, steps=(100, 200, 300), shift=0.0, **more):
    return [
        {
            "checkpoint": f"{run}/checkpoints/step={step:06d}.ckpt",
            "step": step,
            "weights": "ema",
            "sha256": "ab" * 32,
            "fid_digits": 20.0 - step / 100 + shift,
            "fid_digits_se": 0.4,
            "fid_digits_jackknife": 19.123 - step / 100 + shift,
            "is_digits": 3.0 + step / 100 + shift,
            "is_digits_std": 0.25,
        }
        | more
        for step in steps
    ]


def picture(level, size=40):
    return np.full((size, size, 3), level, dtype=np.uint8)


@pytest.fixture
def write(tmp_path):
    """A function that writes a report and reads it again."""

    def build(*entries, best=None, seed=7, protocol=PROTOCOL):
        path = write_report(tmp_path / "deep" / "report", list(entries), protocol, best or {}, seed)
        assert path == tmp_path / "deep" / "report" / "index.html"
        assert [p.name for p in path.parent.iterdir()] == ["index.html"]
        return Page(path)

    return build


def test_a_comparison_of_runs(write):
    first = Entry("runs/a", rows_of("runs/a"), picture(10), None)
    second = Entry("runs/b", rows_of("runs/b", shift=-2.0), picture(20), picture(30), "distances from 0.1 to 0.4")
    page = write(first, second, best={"fid_digits": second.rows[2], "is_digits": first.rows[2]})
    comparison, everything = page.tables
    head, *rows = [[" ".join(cell.split()) for cell in row] for row in comparison]
    assert head == ["Run", "Step", "fid_digits ↓, lower is better", "is_digits ↑, higher is better", "Measured"]
    # the best run first, each at its lowest FID; 0.4 standard errors are 0.84 of half width
    assert [row[0] for row in rows] == ["b", "a"]
    assert [row[1] for row in rows] == ["300", "300"]
    assert rows[0][2] == "●best: 15 jackknife 14.12 ± 0.84"
    assert rows[1][2] == "17 jackknife 16.12 ± 0.84"
    assert [row[3] for row in rows] == ["4 std 0.25", "●best: 6 std 0.25"]
    assert rows[0][4] == "step=000300.ckpt ema weights, SHA-256 ababababab…"
    assert len(everything) == 1 + 6
    text = " ".join(page.text.split())
    assert "Evaluation of 2 runs" in text
    assert f"lightning_gen {__version__}" in text
    assert "Runs are named by their place below runs." in text
    assert "Best fid_digits ↓, lower is better 15 b, step 300" in text
    assert "set 7, drawn from the same seeds for every run" in text
    assert "distances from 0.1 to 0.4" in text
    assert "9742" * 16 in text
    assert "f" * 64 in text


def test_pictures_are_whole(write):
    noise = np.random.default_rng(0).integers(0, 256, size=(30, 50, 3), dtype=np.uint8)
    page = write(Entry("runs/a", rows_of("runs/a"), noise, picture(5, 400)))
    grid, neighbours = page.all("img")
    found = Image.open(io.BytesIO(base64.b64decode(grid["src"].removeprefix("data:image/png;base64,"))))
    assert np.array_equal(np.asarray(found), noise)
    # small pictures are shown larger, by a whole factor
    assert (grid["width"], grid["height"]) == ("300", "180")
    assert (neighbours["width"], neighbours["height"]) == ("400", "400")
    assert all("runs/a" in image["alt"] for image in (grid, neighbours))


def test_nothing_comes_from_elsewhere(write):
    page = write(Entry("runs/a", rows_of("runs/a"), picture(1), picture(2)))
    assert "http:" not in page.source.replace("http-equiv", "")
    assert "https:" not in page.source
    assert "//" not in re.sub(r"(?m)^\s*//.*$", "", page.source).replace("data:image", "").split("base64,")[0]
    places = [a[k] for _, a in page.elements for k in ("src", "href", "data", "action", "xlink:href") if k in a]
    assert places
    assert all(place.startswith(("data:", "#")) for place in places)
    assert "@import" not in page.source
    assert "url(" not in page.source
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_links_and_heads_lead_somewhere(write):
    page = write(Entry("runs/a", rows_of("runs/a"), picture(1), picture(2)), Entry("x", rows_of("x"), None, None))
    names = [a["id"] for _, a in page.elements if "id" in a]
    assert sorted(names) == sorted(set(names))
    assert {a["href"][1:] for a in page.all("a")} == set(names)
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1


HOSTILE = "</script><script>alert(\"1\")</script><img src=x onerror=alert(2)> & 'q' {{ 7 * 7 }} $x"


def test_what_users_wrote_is_text(write):
    rows = rows_of(HOSTILE, weights=HOSTILE, sha256=HOSTILE)
    protocol = {"fid_digits": {**PROTOCOL["fid_digits"], HOSTILE: HOSTILE}, HOSTILE: {"k": [HOSTILE]}}
    best = {"fid_digits": rows[0], HOSTILE: rows[0]}
    page = write(Entry(HOSTILE, rows, picture(1), picture(2), HOSTILE), best=best, protocol=protocol)
    assert len(page.all("script")) == 1
    assert len(page.all("img")) == 2
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert page.text.count(HOSTILE) >= 6
    assert HOSTILE not in page.source


def test_a_path_that_is_no_text(write):
    label = b"runs/\xff".decode(errors="surrogateescape")
    assert "\\udcff" in write(Entry(label, rows_of(label), None, None)).text


@pytest.mark.parametrize("seed", [None, 0])
def test_samples_without_steps_errors_pictures_and_values(write, seed):
    runs = {"a.npz": 3.5, "b.npz": None, "c.npz": float("nan")}
    entries = [Entry(k, [{"samples": k, "fid_digits": v, "is_digits": None}], None, None) for k, v in runs.items()]
    page = write(*entries, seed=seed)
    ((head, *rows),) = [[[" ".join(cell.split()) for cell in row] for row in table] for table in page.tables]
    assert head[1].startswith("fid_digits")  # there is no column of steps
    assert [row[:3] for row in rows] == [["a.npz", "●best: 3.5", "–"], ["b.npz", "–", "–"], ["c.npz", "–", "–"]]
    assert "No intervals are shown" in page.text
    assert not page.all("img")
    assert "NaN" not in page.source


def test_one_checkpoint(write):
    page = write(Entry("runs/a", rows_of("runs/a", steps=[5]), None, None), best={"fid_digits": rows_of("runs/a")[0]})
    assert len(page.tables) == 1
    assert "best: " not in page.text  # of one
    assert "Curves" not in page.text
    assert "Evaluation of runs/a" in page.text


def test_nothing_to_show(write):
    assert "Nothing was measured." in write(protocol={}).text


def test_all_is_kept_as_json(write):
    rows = rows_of("runs/a", neighbours=[{"sample": 1, "row": 2}])
    page = write(Entry("runs/a", rows, None, None))
    decoder = json.JSONDecoder()
    protocol = decoder.raw_decode(page.text, page.text.index("{", page.text.index("The protocol as JSON")))[0]
    values = decoder.raw_decode(page.text, page.text.index("[", page.text.index("The values as JSON")))[0]
    assert protocol == PROTOCOL
    assert values == rows


def test_the_old_page_stays_where_the_new_one_fails(tmp_path, monkeypatch):
    entry = Entry("runs/a", rows_of("runs/a"), None, None)
    path = write_report(tmp_path, [entry], PROTOCOL, {}, 0)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_report(tmp_path, [entry, entry], PROTOCOL, {}, 0)
    assert path.read_bytes() == before


# ---------------------------------------------------------------- numbers


def test_bars_share_the_scale_of_their_column():
    rows = [{"v": 2.0, "v_se": 1 / STUDENT_95}, {"v": None}, {"v": 5.0}]
    found = [cell.bar for cell in cells(rows, Column("v", False))]
    assert found[1] is None
    assert (found[0].low, found[0].at, found[0].high) == pytest.approx((0, 25, 50))  # 1, 2 and 3 on [1, 5]
    assert (found[2].low, found[2].at, found[2].high) == pytest.approx((100, 100, 100))
    assert [cell.best for cell in cells(rows, Column("v", None))] == [False] * 3


def test_columns_are_numbers():
    rows = [{"samples": "x", "a": 1.0, "a_se": 0.1, "a_jackknife": 0.9, "note": "text", "flag": True, "b": None}]
    assert [column.name for column in columns_of(rows, {})] == ["a", "b"]


@pytest.mark.parametrize(
    ("labels", "folder", "short"),
    [
        (["/x/runs/a/v0", "/x/runs/b/v0"], "/x/runs", ["a/v0", "b/v0"]),
        (["runs/a", "runs/ab"], "runs", ["a", "ab"]),
        (["runs/a", "runs/a/b"], "runs", ["a", "a/b"]),
        (["/a", "/b"], "", ["/a", "/b"]),
        (["/a/x", "b/x"], "", ["/a/x", "b/x"]),
        (["runs/a"], "", ["runs/a"]),
        ([], "", []),
    ],
)
def test_labels_without_the_shared_folder(labels, folder, short):
    assert short_labels(labels) == (folder, short)


# ---------------------------------------------------------------- curves


def test_points_lie_where_their_numbers_say():
    rows = [{"step": s, "v": v, "v_se": 0.5 / STUDENT_95} for s, v in ((0, 1.0), (500, 3.0), (1000, 2.0))]
    (chart,) = charts([rows], [Column("v", False)])
    (curve,) = chart.curves
    # straight lines through two ticks of each axis
    (a, b), (c, d) = chart.x_ticks[:2], chart.y_ticks[:2]
    for row, point in zip(rows, curve.points, strict=True):
        share = (point.x - a.at) / (b.at - a.at)
        assert float(a.text) + share * (float(b.text) - float(a.text)) == pytest.approx(row["step"])
        for y, value in ((point.y, row["v"]), (point.low, row["v"] - 0.5), (point.high, row["v"] + 0.5)):
            share = (y - c.at) / (d.at - c.at)
            assert float(c.text) + share * (float(d.text) - float(c.text)) == pytest.approx(value)
    assert all(chart.left <= p.x <= chart.right and chart.top <= p.high < p.low <= chart.bottom for p in curve.points)
    assert curve.band.count("L") == 5


def test_a_wide_range_is_logarithmic():
    rows = [{"step": s, "v": v, "v_se": 0.3 * v} for s, v in ((1, 400.0), (2, 40.0), (3, 4.0))]
    (chart,) = charts([rows], [Column("v", False)])
    assert chart.log
    first, second, third = chart.curves[0].points
    assert second.y - first.y == pytest.approx(third.y - second.y)
    assert all(chart.top <= p.high <= p.low <= chart.bottom for p in chart.curves[0].points)
    assert [tick.text for tick in chart.y_ticks] == ["2", "5", "10", "20", "50", "100", "200", "500"]


def test_runs_with_one_step_or_none_join_the_others():
    many = [{"step": s, "v": 1.0 + s} for s in (1, 2)]
    once, data = [{"step": 2, "v": 2.0, "v_se": 0.1}], [{"samples": "x", "v": 0.5, "v_se": 0.1}]
    (chart,) = charts([many, once, data, [{"step": 1, "v": None}]], [Column("v", None), Column("w", None)])
    assert [curve.run for curve in chart.curves] == [0, 1, 2]
    assert [len(curve.points) for curve in chart.curves] == [2, 1, 2]
    level = chart.curves[2]
    assert level.constant
    assert level.points[0].y == level.points[1].y
    assert charts([once, data], [Column("v", None)]) == []


@pytest.mark.parametrize("values", [(2.0, 2.0), (0.0, 0.0), (-1.0, 1e-9), (1e-7, 3e-7), (1e9, 3e9), (0.0, 1e4)])
def test_any_range_has_ticks(values):
    (chart,) = charts([[{"step": s, "v": v} for s, v in enumerate(values)]], [Column("v", False)])
    texts = [tick.text for tick in chart.y_ticks]
    assert len(texts) >= 2
    assert len(set(texts)) == len(texts)
    assert all(np.isfinite([p.x, p.y]).all() for p in chart.curves[0].points)


# ---------------------------------------------------------------- protocol


def test_facts_that_all_metrics_share_are_told_once():
    facts = facts_of(PROTOCOL)
    shared = {fact.term: fact.text for fact in facts.shared}
    assert shared == {
        "Extractor": "digits",
        "Its weights (SHA-256)": "9742" * 16,
        "Resize": "bilinear, to 16x16",
        "Samples": "10,000",
        "Seed of the samples": "7",
    }
    own = {fact.term: fact.text for fact in facts.own["fid_digits"]}
    assert own == {
        "Metric": "fid",
        "Better": "lower values",
        "Reference: split": "train",
        "Reference: limit": "all rows",
        "Reference: fingerprint": "f" * 64,
        "Reference: samples": "1,797",
    }
    assert facts_of({}).own == {}
    assert facts_of({"a": PROTOCOL["fid_digits"]}).shared == []


# ---------------------------------------------------------------- in a browser

OUTER = """<!DOCTYPE html><title>outer</title><iframe src="report/index.html" width="1000" height="2000"></iframe>
<img src="http://127.0.0.1:59999/control"><pre></pre><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const column = (index) => [...page.querySelectorAll("table tbody tr")].slice(0, 3).map(
    (row) => row.cells[index].dataset.value);
  const click = (index) => page.querySelectorAll("table thead th")[index].querySelector("button").click();
  const found = {script: page.documentElement.dataset.script, width: page.documentElement.scrollWidth};
  click(3); found.first = column(0);
  click(3); found.second = column(0); found.sort = page.querySelectorAll("th[aria-sort]").length;
  click(0); found.names = column(0);
  const chart = page.querySelector(".plot svg");
  chart.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
  found.tip = page.querySelector(".tip").innerText.split(/\\s+/).join(" ");
  page.querySelector(".gallery button").click();
  found.enlarged = page.querySelector("dialog[open] img").naturalWidth;
  console.log("control");
  document.querySelector("pre").textContent = JSON.stringify(found);
};
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_in_a_browser(tmp_path):
    entries = [
        Entry(f"runs/{k}", rows_of(f"runs/{k}", shift=s), picture(9), None) for k, s in (("a", 0), ("b", 3), ("c", 2))
    ]
    write_report(tmp_path / "report", entries, PROTOCOL, {}, 0)
    (tmp_path / "outer.html").write_text(OUTER)
    words = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    words += " disable-component-update disable-sync disable-default-apps allow-file-access-from-files dump-dom"
    words += f" enable-logging=stderr v=0 user-data-dir={tmp_path / 'profile'} log-net-log={tmp_path / 'net.json'}"
    done = subprocess.run(
        [
            "chromium",
            *(f"--{word}" for word in words.split()),
            "--host-resolver-rules=MAP * ~NOTFOUND",
            (tmp_path / "outer.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = json.loads(re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)[1])
    assert found["script"] == "ran"
    assert found["width"] <= 1000
    assert (found["first"], found["second"]) == (["b", "c", "a"], ["a", "c", "b"])
    assert found["names"] == ["a", "b", "c"]
    assert found["sort"] == 1
    assert found["tip"] == "step 100 19 a 22 b 21 c"
    assert found["enlarged"] == 40
    # errors, and requests that the page's own policy refuses, are told on the console
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert any("control" in line for line in console)
    assert not [line for line in console if "report/index.html" in line]
    events = [event.get("params", {}) for event in json.loads((tmp_path / "net.json").read_text())["events"]]
    # what has no origin is the browser's own
    requests = {event["url"] for event in events if event.get("initiator", "not an origin") != "not an origin"}
    assert requests == {"http://127.0.0.1:59999/control"}
