"""Perceptual losses against a second way of computing, and what they leave alone: checkpoints and optimisers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from lightning_gen.data import Digits
from lightning_gen.errors import UserError
from lightning_gen.losses.perceptual import LPIPS, ClassifierFeatures
from lightning_gen.metrics.extractors.digits_classifier import DigitsClassifier


@pytest.fixture(scope="module")
def digits():
    return Digits(image_size=16).examples(8)["x"]


def test_classifier_features_are_those_of_the_packaged_classifier(digits):
    made = digits.roll(1, 0).requires_grad_()
    found = ClassifierFeatures()(made, digits)
    # by hooks on the extractor itself, fed with bytes: digits of 16 pixels need no resizing and no rounding
    extractor, seen = DigitsClassifier().prepare(), []
    for layer in extractor.body:
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda _, __, h: seen.append(normalize(h.double(), dim=1, eps=1e-12)))
    extractor(made.detach())
    extractor(digits)
    assert len(seen) == 8
    expected = sum((a - b).square().sum(1).mean((1, 2)) for a, b in zip(seen[:4], seen[4:], strict=True))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), made)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("classifier", ["digits", "mnist"])
def test_it_is_a_distance(classifier, digits):
    loss = ClassifierFeatures(classifier)
    assert torch.equal(loss(digits, digits), torch.zeros(8))
    noisy = [loss(digits + scale * torch.randn_like(digits), digits).mean() for scale in (0.02, 0.1, 0.5)]
    assert 0 < noisy[0] < noisy[1] < noisy[2]
    torch.testing.assert_close(loss(digits.roll(1, 0), digits), loss(digits, digits.roll(1, 0)))


def test_channels_are_images_of_their_own(digits):
    loss = ClassifierFeatures()
    x, made = digits.view(4, 2, 16, 16), digits.roll(1, 0).view(4, 2, 16, 16)
    each = loss(digits.roll(1, 0), digits).view(4, 2)
    torch.testing.assert_close(loss(made, x), each.mean(1))


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.loss = ClassifierFeatures()


def test_its_network_is_no_part_of_the_model_but_goes_where_it_goes(digits):
    model = Holder()
    names = set(model.state_dict())
    model.loss.prepare()
    assert set(model.state_dict()) == names == {"layer.weight", "layer.bias"}
    assert len(list(model.parameters())) == 2
    assert list(model.loss.buffers()) == []
    before = model.loss(digits, digits.roll(1, 0))
    model.train()
    torch.testing.assert_close(model.loss(digits, digits.roll(1, 0)), before, rtol=0, atol=0)
    assert not any(p.requires_grad for p in model.loss._hidden[0].parameters())
    model.double()
    after = model.loss(digits.double(), digits.double().roll(1, 0))
    assert after.dtype == torch.float64
    torch.testing.assert_close(after.float(), before, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(copy.deepcopy(model).loss(digits, digits.roll(1, 0)), after, rtol=1e-6, atol=1e-7)
    assert Holder().double().loss(digits.double(), digits.double()).dtype == torch.float64  # read at first use


def test_reading_it_leaves_the_random_numbers_alone():
    before = torch.get_rng_state()
    ClassifierFeatures().prepare()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_classifier_that_is_not_there_is_refused():
    with pytest.raises(UserError, match=r"ClassifierFeatures.classifier is 'x'.*digits, mnist"):
        ClassifierFeatures("x")


# -------------------------------------------------------------------- LPIPS


@pytest.mark.parametrize(("net", "file"), [("vgg", "vgg16-"), ("alex", "alexnet-"), ("squeeze", "squeezenet1_1-")])
def test_absent_weights_are_named_and_not_fetched(net, file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    loss = LPIPS(net)  # so that a checkpoint can be sampled from without them
    with pytest.raises(UserError, match=f"LPIPS.net is '{net}', whose weights {file}.*.pth are not in .*https://"):
        loss.prepare()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_lpips_is_the_formula_of_the_paper(tmp_path, monkeypatch):
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    backbone = squeezenet1_1(weights=None).eval()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.save(backbone.state_dict(), tmp_path / "hub/checkpoints/squeezenet1_1-b8a52dc0.pth")
    x, made = torch.rand(3, 1, 48, 48) * 2 - 1, (torch.rand(3, 1, 48, 48) * 2 - 1).requires_grad_()
    loss = LPIPS("squeeze")
    found = loss(made, x)
    network = loss._hidden[0]

    def activations(images):
        h = (images.expand(-1, 3, -1, -1) - torch.tensor([-0.030, -0.088, -0.188]).view(-1, 1, 1)) / torch.tensor(
            [0.458, 0.448, 0.450]
        ).view(-1, 1, 1)
        for i, layer in enumerate(backbone.features):
            h = layer(h)
            if i in (1, 4, 7, 9, 10, 11, 12):
                yield h

    expected = torch.zeros(3)
    for i, (a, b) in enumerate(zip(activations(made), activations(x), strict=True)):
        weight = getattr(network, f"lin{i}").model[-1].weight
        assert weight.min() >= 0
        expected = expected + ((normalize(a) - normalize(b)).square() * weight).sum(1).mean((1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert torch.autograd.grad(found.sum(), made)[0].abs().sum() > 0
    with pytest.raises(UserError, match=r"1 or 3 channels, got 2"):
        loss(x.expand(-1, 2, -1, -1), x.expand(-1, 2, -1, -1))
    loss.check(x)
    with pytest.raises(UserError, match=r"LPIPS cannot judge images of shape \(1, 2, 2\)"):
        loss.check(x[..., :2, :2])
