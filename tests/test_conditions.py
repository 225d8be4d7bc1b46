"""What samples are conditioned on."""

from types import SimpleNamespace

import pytest
import torch

from lightning_gen.conditions import Attributes, Classes, Unconditional, condition
from lightning_gen.data.rows import TensorRows
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise, sample_seeds

NAMES = ["Smiling", "Male", "Hat"]


def noise(n=600):
    return Noise(sample_seeds(0, torch.arange(n)))


def data(**overrides):
    settings = {"num_classes": None, "attribute_names": None}
    return SimpleNamespace(**settings | overrides)


@pytest.fixture
def learnt():
    """Attributes of data in which nobody has a hat and all who smile are male."""
    y = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float32).repeat(100, 1)
    rows = TensorRows(torch.zeros(400, 2), y)
    attributes = Attributes(NAMES)
    attributes.learn(SimpleNamespace(split=lambda name: rows))
    return attributes


def test_which_condition_a_model_has():
    assert isinstance(condition(None, None), Unconditional)
    assert isinstance(condition(3, None), Classes)
    assert isinstance(condition(3, NAMES), Attributes)
    with pytest.raises(UserError, match=r"attributes has 3 names .* num_classes is 4"):
        condition(4, NAMES)


def test_attributes_are_drawn_as_they_occur_together(learnt):
    y = learnt.draw(noise(), None)
    assert y.shape == (600, 3)
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert not y[:, 2].any()
    assert bool((y[:, 0] <= y[:, 1]).all())
    assert abs(float(y[:, 0].mean()) - 0.25) < 0.08
    assert abs(float(y[:, 1].mean()) - 0.5) < 0.09


def test_attributes_that_are_asked_for_are_obeyed_and_others_drawn(learnt):
    drawn = learnt.draw(noise(), None)
    y = learnt.draw(noise(), learnt.wanted("Hat,-Male").expand(600, 3))
    assert bool((y[:, 2] == 1).all())
    assert not y[:, 1].any()
    assert torch.equal(y[:, 0], drawn[:, 0])


def test_words_name_attributes():
    assert Attributes(NAMES).wanted("Male, -Smiling").tolist() == [0.0, 1.0, -1.0]
    with pytest.raises(UserError, match=r"'Mal'.*Male"):
        Attributes(NAMES).wanted("Mal")
    with pytest.raises(UserError, match="with and without Hat"):
        Attributes(NAMES).wanted("Hat,-Hat")


def test_what_was_learnt_is_in_the_state(learnt):
    other = Attributes(NAMES)
    assert not torch.equal(other.rows, learnt.rows)
    other.load_state_dict(learnt.state_dict())
    assert torch.equal(other.draw(noise(), None), learnt.draw(noise(), None))


def test_giving_a_condition_leaves_the_rest_of_the_noise_alone(learnt):
    for kind, y in ((Classes(4), torch.zeros(600, dtype=torch.int64)), (learnt, torch.zeros(600, 3))):
        a, b = noise(), noise()
        kind.draw(a, None)
        kind.draw(b, y)
        assert torch.equal(a.normal(2), b.normal(2))


@pytest.mark.parametrize(
    ("kind", "y", "words"),
    [
        (Unconditional(), torch.zeros(600), "unconditional"),
        (Classes(3), torch.full((600,), 3), "class 3 does not exist"),
        (Classes(3), torch.zeros(600, 3), "one whole number a sample"),
        (Attributes(NAMES), torch.zeros(600), "conditioned on attributes: Smiling, Male, Hat"),
        (Attributes(NAMES), torch.zeros(600, 2), "3 attributes"),
        (Attributes(NAMES), torch.full((600, 3), 0.5), "1 where present"),
    ],
)
def test_what_does_not_exist_is_refused(kind, y, words):
    with pytest.raises(UserError, match=words):
        kind.draw(noise(), y)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (Classes(3), data(), "data has none"),
        (Classes(3), data(num_classes=4), "data has 4 classes but the model knows 3"),
        (Classes(3), data(num_classes=2), "data has 2 classes but the model knows 3"),
        (Classes(3), data(num_classes=3, attribute_names=NAMES), r"attributes, \[Smiling, Male, Hat\]"),
        (Attributes(NAMES), data(num_classes=3), "data has none"),
        (Attributes(NAMES), data(num_classes=3, attribute_names=NAMES[::-1]), r"data has \[Hat, Male, Smiling\]"),
    ],
)
def test_data_that_do_not_fit_are_refused(kind, data, words):
    with pytest.raises(UserError, match=words):
        kind.check_data(data, labelled=True)
    kind.check_data(data, labelled=False)


def test_pictures_show_each_class_equally_often():
    assert Classes(3).one_each(7).tolist() == [0, 0, 1, 1, 2, 2]
    assert Classes(3).one_each(1).tolist() == [0, 1, 2]
    assert Attributes(NAMES).one_each(7) is None
    assert Unconditional().one_each(7) is None


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_names_must_be_unique(names):
    with pytest.raises(UserError, match="each attribute's name, once"):
        Attributes(names)
