"""Every recipe can be built, and its parts fit each other."""

import re
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from lightning_gen.checkpoints import instantiate
from lightning_gen.data import CIFAR10, MNIST, DataModule, FashionMNIST, ImageArrays, ImageFolder
from lightning_gen.model import GenerativeModel

sys.path.append(str(Path(__file__).parent))
from recipes import RECIPES, ROOT, settings_of

FROM_ELSEWHERE = CIFAR10 | MNIST | FashionMNIST | ImageArrays | ImageFolder
KEYS = {"seed_everything", "model", "data", "trainer", "run_name", "finite_guard", "progress_bar", "ckpt_path"}


def recipe_name(path):
    return str(path.relative_to(ROOT).with_suffix(""))


@pytest.fixture(params=RECIPES, ids=recipe_name)
def recipe(request):
    return request.param


@pytest.fixture
def settings(recipe, tmp_path):
    return settings_of(recipe, tmp_path)


def test_there_are_recipes():
    assert RECIPES


def test_model_and_data_fit_each_other(settings):
    model, data = instantiate(GenerativeModel, settings["model"]), instantiate(DataModule, settings["data"])
    if not isinstance(getattr(data, "data", data), FROM_ELSEWHERE):
        model.check_data(data)
    else:  # shapes need no files
        assert model.made_shape() == tuple(data.sample_shape)
    assert sum(p.numel() for p in model.parameters()) > 0
    optimizers = model.configure_optimizers()
    assert optimizers


def test_callbacks_can_be_built(settings):
    for callback in settings["trainer"].get("callbacks", []):
        assert isinstance(instantiate(Callback, callback), Callback)


def test_averages_name_submodules(settings):
    model = instantiate(GenerativeModel, settings["model"])
    own = dict(model.named_children())
    for callback in settings["trainer"].get("callbacks", []):
        if callback["class_path"] == "EMA":
            assert set(callback["init_args"].get("modules", ["generator"])) <= own.keys()


def test_monitored_values_are_measured(settings):
    callbacks = [instantiate(Callback, c) for c in settings["trainer"].get("callbacks", [])]
    measured = {name for c in callbacks for m in getattr(c, "metrics", []) for name in (m.name, *m.directions)} | {
        "d_held_out",
        "val_error",
        None,
    }
    for callback in callbacks:
        assert getattr(callback, "monitor", None) in measured


def test_keys_are_those_of_the_command(settings):
    assert settings.keys() <= KEYS
    assert {"seed_everything", "model", "data", "trainer"} <= settings.keys()


def numbers(value, path=""):
    """Every list of numbers, with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}.{key}")
    elif isinstance(value, list):
        if value and all(isinstance(x, int | float) for x in value):
            yield path, value
        for k, inner in enumerate(value):
            yield from numbers(inner, f"{path}[{k}]")


def test_no_list_mixes_ints_and_floats(settings):
    # betas: [0, 0.9] is refused by torch ≥ 2.15
    for path, value in numbers(settings):
        assert len({type(x) for x in value}) == 1, f"{path}: {value}"


def test_recipes_begin_with_a_comment_that_names_their_paper(recipe):
    head = " ".join(takewhile(lambda line: line.startswith("#"), recipe.read_text().splitlines()))
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|(19|20)\d\d", head)


def test_names_are_family_recipe_and_data(recipe):
    assert recipe.parent.parent == ROOT
    assert "_" in recipe.stem
