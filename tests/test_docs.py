"""What the documentation says is so: examples run, quoted code and flags exist, the site builds."""

import importlib
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import lightning_gen

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FENCE = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
COMMANDS = ("fit", "validate", "test", "predict", "sample", "evaluate", "reference", "weights")
# two steps, small batches; what an example itself is about stays
TINY = ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--data.init_args.batch_size", "4"]


def blocks(page, language):
    """Code blocks of a page: (file name or None, text)."""
    found = []
    for _, kind, info, text in FENCE.findall(page.read_text()):
        if kind == language:
            title = re.search(r'title="([^"]+)"', info)
            found.append((title and title[1], text))
    return found


def commands(page):
    """Command lines of a page's bash blocks, continued lines joined; a block's first line may say what it needs."""
    for _, text in blocks(page, "bash"):
        if text.startswith("# needs"):
            continue
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


# ---------------------------------------------------------------- examples run


def make_photos(folder):
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(12):
        path = folder / "photos" / ("cats", "dogs")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, size=(70, 90 + i, 3), dtype=np.uint8)).save(path)


DRIVER = """\
import json, runpy, sys
from lightning_gen.__main__ import main
for words in json.loads(sys.argv.pop()):
    print("$", *words, flush=True)
    runpy.run_path(words[1]) if words[0] == "python" else main(words[1:])
"""


@pytest.mark.parametrize("name", ["your-own-images", "your-own-parts"])
def test_every_example_runs(name, tmp_path):
    page = DOCS / f"{name}.md"
    make_photos(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for language in ("python", "yaml"):
        for title, text in blocks(page, language):
            if title:
                (tmp_path / title).write_text(text)
    lines = list(commands(page))
    assert any(words[1] == "sample" for words in lines)
    small = {"fit": TINY, "sample": ["--num", "2", "--accelerator", "cpu"]}
    small["evaluate"] = ["--num_samples", "300", "--accelerator", "cpu"]
    lines = [words + small.get(words[1], []) for words in lines]
    env = {k: v for k, v in os.environ.items() if not k.startswith("LIGHTNING_GEN_")}
    env |= {"LIGHTNING_GEN_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(lines)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_is_valid(page):
    for title, text in blocks(page, "python"):
        # a quoted line may be of the inside of a function
        compile(text if title else f"def quoted(self):\n{textwrap.indent(text, ' ')}", title or page.name, "exec")


# ---------------------------------------------------------------- what is quoted exists


@pytest.mark.parametrize(
    "name",
    [
        *("gan", "vae", "vae-parts", "vqvae", "aae", "density", "deep-density", "flow", "image-flows", "pixelcnn"),
        *("diffusion", "flow-matching", "time-networks"),
    ],
)
def test_quoted_code_is_in_the_source(name):
    files = (ROOT / "lightning_gen").rglob("*.py")
    source = {line.split("  # ")[0].strip() for path in files for line in path.read_text().splitlines()}
    text = "\n".join(text for _, text in blocks(DOCS / f"{name}.md", "python") if "import" not in text)
    quoted = [line.split("  # ")[0].strip() for line in text.splitlines() if line.strip()]
    assert len(quoted) > 6
    assert not [line for line in quoted if line not in source]


def test_no_measurement_is_owed():
    owed = re.compile("<!-- (measured|results|remeasure)")
    assert not [page.name for page in (*PAGES, ROOT / "README.md") if owed.search(page.read_text())]


def test_local_paths_exist():
    words = {word.rstrip(".,:") for page in PAGES for word in re.findall(r"[\w./-]+", page.read_text())}
    named = {word for word in words if re.match(r"(configs|scripts|lightning_gen|tests)/.*\.\w+$", word)}
    assert named
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


# ---------------------------------------------------------------- flags exist


HELP = """\
import contextlib, io, json, sys
from lightning_gen.commands import run
texts = {}
for command in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        run([command, "--help"])
    texts[command] = text.getvalue()
print(json.dumps(texts))
"""


@pytest.fixture(scope="module")
def options():
    """Options of every command, as its own help lists them."""
    call = [sys.executable, "-W", "ignore", "-c", HELP, *COMMANDS]
    text = subprocess.run(call, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"}).stdout
    return {command: set(re.findall(r"--[\w.]+", listed)) for command, listed in json.loads(text).items()}


GLOBAL = {"--debug", "--help", "--version", "--print_completion", "--print_config"}


def test_flags_exist(options):
    everywhere = set().union(*options.values()) | GLOBAL
    for page in [*PAGES, ROOT / "README.md"]:
        if not page.exists():
            continue
        text = page.read_text()
        for line in re.findall(
            r"lightning_gen (?:fit|validate|test|predict|sample|evaluate|reference|weights)\b[^`\n]*", text
        ):
            command = line.split()[1]
            for flag in re.findall(r"(?<!\S)--[\w.]+", line):
                assert known(flag, options[command] | GLOBAL), f"{page.name}: {line}"
        for flag in re.findall(r"`(--[a-z][\w.]+)", text):
            assert known(flag, everywhere), f"{page.name}: {flag}"


def known(flag, options):
    # keys of the classes that a recipe chooses are checked where the recipe runs
    return flag in options or flag.startswith(("--model.init_args.", "--data.init_args."))


# ---------------------------------------------------------------- the site


def test_every_module_is_in_the_reference():
    modules = {module.name for module in pkgutil.walk_packages(lightning_gen.__path__, "lightning_gen.")}
    modules = {
        name for name in modules if "__main__" not in name and not hasattr(importlib.import_module(name), "__path__")
    }
    text = "\n".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    documented = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    internal = {
        f"lightning_gen.{name}"
        for name in (
            "commands.explain",
            "commands.fitting",
            "commands.processes",
            "commands.words",
            "metrics.distributed",
        )
    }
    assert sorted(modules - documented - internal) == []
    assert sorted(documented - modules) == []


def test_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    pages = "".join(path.read_text() for path in tmp_path.rglob("*.html"))
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://(?!.*rel="canonical")[^"]+', pages)


LISTED = {
    "gan-recipes": (("gan",), {"fid_digits", "is_digits"}),
    "vae-recipes": (("vae", "vqvae", "aae"), {"fid_digits", "is_digits"}),
    "density-recipes": (("density", "flow", "pixelcnn"), {"fid_digits", "is_digits"}),
    "diffusion-recipes": (("diffusion", "flow_matching"), {"fid_digits", "is_digits"}),
}


@pytest.mark.parametrize("page", LISTED)
def test_every_recipe_is_listed(page):
    folders, others = LISTED[page]
    names = re.compile(
        r"`(\w+_(?:ring8|grid25|digits|mnist|cifar10|folder|factors|eight_gaussians|checkerboard|moons))`"
    )
    listed = names.findall((DOCS / f"{page}.md").read_text())
    written = [path.stem for folder in folders for path in (ROOT / "configs" / folder).glob("*.yaml")]
    assert set(listed) - others == set(written)
