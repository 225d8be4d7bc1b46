"""Auxiliary losses against slow loops and torch.distributions."""

import math

import pytest
import torch
from losses_fakes import random
from torch.distributions import Bernoulli, Categorical, Normal
from torch.nn.functional import normalize

from lightning_gen.errors import UserError
from lightning_gen.losses import (
    AuxiliaryClassifier,
    ConditionalContrastive,
    DataToDataCrossEntropy,
    MultiHinge,
    MutualInformation,
)
from lightning_gen.networks.base import Judgement
from lightning_gen.networks.heads import Classifier, Codes, Contrastive, Projection

Y = torch.tensor([0, 2, 1, 2, 2])
ATTRIBUTES = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0]], dtype=torch.float64)
Z = random(5, 4, seed=9)
NOTHING = Judgement(torch.zeros(5, dtype=torch.float64))
LOGITS = [NOTHING._replace(logits=2 * random(5, 3, seed=seed)) for seed in range(2)]


def hinge_by_hand(logits, y):
    costs = [
        max(0.0, 1 - row[c] + max(v for k, v in enumerate(row) if k != c)) for row, c in zip(logits, y, strict=True)
    ]
    return sum(costs) / len(costs)


def attribute_hinge_by_hand(logits, y):
    return sum(
        max(0.0, 1 - v if t else 1 + v) for row, ts in zip(logits, y, strict=True) for v, t in zip(row, ts, strict=True)
    ) / len(y)


COSTS = {
    ("AuxiliaryClassifier", "classes"): lambda f: -Categorical(logits=f).log_prob(Y).mean().item(),
    ("AuxiliaryClassifier", "attributes"): lambda f: -Bernoulli(logits=f).log_prob(ATTRIBUTES).sum(1).mean().item(),
    ("MultiHinge", "classes"): lambda f: hinge_by_hand(f.tolist(), Y.tolist()),
    ("MultiHinge", "attributes"): lambda f: attribute_hinge_by_hand(f.tolist(), ATTRIBUTES.tolist()),
}


@pytest.mark.parametrize("y", [Y, ATTRIBUTES], ids=["classes", "attributes"])
@pytest.mark.parametrize("kind", [AuxiliaryClassifier, MultiHinge])
def test_classification_costs(kind, y):
    cost = COSTS[kind.__name__, "attributes" if y.is_floating_point() else "classes"]
    of_real, of_fake = (cost(judged.logits) for judged in LOGITS)
    loss = kind(real_weight=2.0, fake_weight=3.0, generator_weight=5.0)
    assert loss.discriminator(*LOGITS, y, Z).item() == pytest.approx(2 * of_real + 3 * of_fake, rel=1e-12)
    assert loss.generator(LOGITS[1], y, Z).item() == pytest.approx(5 * of_fake, rel=1e-12)


def test_the_multi_hinge_stops_at_the_margin():
    sure = NOTHING._replace(logits=3.0 * torch.nn.functional.one_hot(Y).double() - 1.9)
    assert MultiHinge().generator(sure, Y, Z) == 0
    assert MultiHinge().discriminator(sure, LOGITS[1], Y, Z) == 0  # generated samples do not count unless asked to


def test_one_attribute_agrees_with_two_classes():
    """σ(l) is the softmax of (0, l)."""
    logit, y = random(5, 1), torch.tensor([0, 1, 1, 0, 1])
    ce = AuxiliaryClassifier()
    as_attribute = ce.generator(NOTHING._replace(logits=logit), y[:, None].double(), Z)
    as_classes = ce.generator(NOTHING._replace(logits=torch.cat((torch.zeros_like(logit), logit), 1)), y, Z)
    torch.testing.assert_close(as_attribute, as_classes)


@pytest.mark.parametrize("kind", [AuxiliaryClassifier, MultiHinge])
@pytest.mark.parametrize("key", ["real_weight", "fake_weight", "generator_weight"])
def test_negative_class_weights_are_refused(kind, key):
    with pytest.raises(UserError, match=rf"{kind.__name__}.{key} is -1.0: it must be at least 0"):
        kind(**{key: -1.0})


# -------------------------------------------------------------------- contrastive


def embedded(features, proxies):
    features, proxies = normalize(features, dim=1), normalize(proxies, dim=1)
    return NOTHING._replace(embedding=features, logits=features @ proxies.T)


JUDGED = [embedded(random(5, 4, seed=seed), random(3, 4, seed=7)) for seed in (3, 4)]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def contrastive_by_hand(judged, y, t):
    f, to_proxy = judged.embedding.tolist(), judged.logits.tolist()
    total = 0.0
    for i, c in enumerate(y):
        own = math.exp(to_proxy[i][c] / t)
        terms = {j: math.exp(cosine(f[i], f[j]) / t) for j in range(len(f)) if j != i}
        same = sum(value for j, value in terms.items() if y[j] == c)
        total -= math.log((own + same) / (own + sum(terms.values())))
    return total / len(f)


def cross_entropy_by_hand(judged, y, t, m_p, m_n):
    f, to_proxy = judged.embedding.tolist(), judged.logits.tolist()
    total = 0.0
    for i, c in enumerate(y):
        own = math.exp(min(0.0, to_proxy[i][c] - m_p) / t)
        others = (math.exp(max(0.0, cosine(f[i], f[j]) - m_n) / t) for j in range(len(f)) if y[j] != c)
        total -= math.log(own / (own + sum(others)))
    return total / len(f)


@pytest.mark.parametrize("t", [0.1, 1.0])
def test_2c_is_the_sum_over_samples(t):
    loss = ConditionalContrastive(weight=2.0, temperature=t)
    of_real, of_fake = (contrastive_by_hand(judged, Y.tolist(), t) for judged in JUDGED)
    assert loss.discriminator(*JUDGED, Y, Z).item() == pytest.approx(2 * of_real, rel=1e-12)
    assert loss.generator(JUDGED[1], Y, Z).item() == pytest.approx(2 * of_fake, rel=1e-12)


@pytest.mark.parametrize(("t", "m_p", "m_n"), [(0.5, 0.98, 0.02), (0.1, 0.3, -0.2), (1.0, -0.5, 0.4)])
def test_d2d_ce_is_the_sum_over_samples(t, m_p, m_n):
    loss = DataToDataCrossEntropy(2.0, t, m_p, m_n)
    of_real, of_fake = (cross_entropy_by_hand(judged, Y.tolist(), t, m_p, m_n) for judged in JUDGED)
    assert loss.discriminator(*JUDGED, Y, Z).item() == pytest.approx(2 * of_real, rel=1e-12)
    assert loss.generator(JUDGED[1], Y, Z).item() == pytest.approx(2 * of_fake, rel=1e-12)


@pytest.mark.parametrize("loss", [ConditionalContrastive(temperature=0.2), DataToDataCrossEntropy(temperature=0.2)])
def test_contrastive_gradients_are_right(loss):
    def value(features, proxies):
        return loss.generator(embedded(features, proxies), Y, Z)

    assert torch.autograd.gradcheck(value, (random(5, 4).requires_grad_(), random(3, 4, seed=7).requires_grad_()))


@pytest.mark.parametrize("loss", [ConditionalContrastive(), DataToDataCrossEntropy()])
def test_one_class_alone_has_no_contrast(loss):
    y, features = torch.ones_like(Y), random(5, 4).requires_grad_()
    term = loss.generator(embedded(features, random(3, 4)), y, Z)
    assert term.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(term, features)[0].abs().max() < 1e-12


@pytest.mark.parametrize("loss", [ConditionalContrastive(temperature=0.01), DataToDataCrossEntropy(temperature=0.01)])
def test_low_temperatures_stay_finite(loss):
    judged = JUDGED[0]._replace(embedding=JUDGED[0].embedding.float(), logits=JUDGED[0].logits.float())
    assert loss.generator(judged, Y, Z).isfinite()


def test_autocast_does_not_round_cosines():
    judged = JUDGED[0]._replace(embedding=JUDGED[0].embedding.float(), logits=JUDGED[0].logits.float())
    loss = ConditionalContrastive(temperature=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss.generator(judged, Y, Z)
    assert inside.item() == pytest.approx(loss.generator(JUDGED[0], Y, Z).item(), rel=1e-5)  # in float64


@pytest.mark.parametrize("loss", [ConditionalContrastive(), DataToDataCrossEntropy()])
def test_attributes_are_refused_where_classes_are_needed(loss):
    with pytest.raises(UserError, match=rf"auxiliary is {type(loss).__name__}, but data is labelled by attributes"):
        loss.generator(JUDGED[0], ATTRIBUTES, Z)


@pytest.mark.parametrize("kind", [ConditionalContrastive, DataToDataCrossEntropy])
def test_contrastive_arguments_out_of_range_are_refused(kind):
    with pytest.raises(UserError, match=rf"{kind.__name__}.temperature is 0.0: it must be above 0"):
        kind(temperature=0.0)
    with pytest.raises(UserError, match=rf"{kind.__name__}.weight is -1.0: it must be at least 0"):
        kind(weight=-1.0)


@pytest.mark.parametrize("key", ["positive_margin", "negative_margin"])
def test_margins_are_cosines(key):
    with pytest.raises(UserError, match=rf"{key} is 1.5: it is a cosine"):
        DataToDataCrossEntropy(**{key: 1.5})


# -------------------------------------------------------------------- InfoGAN


def test_mutual_information_is_a_log_likelihood():
    fake = NOTHING._replace(logits=random(5, 3), codes=random(5, 2, seed=1))
    of_class = Categorical(logits=fake.logits).log_prob(Y).mean()
    of_codes = Normal(fake.codes, 1.0).log_prob(Z[:, :2]).sum(dim=1).mean() + math.log(2 * math.pi)  # 2 codes
    expected = -(0.7 * of_class + 0.3 * of_codes)
    loss = MutualInformation(class_weight=0.7, code_weight=0.3)
    assert loss.draws_classes
    torch.testing.assert_close(loss.generator(fake, Y, Z), expected)
    torch.testing.assert_close(loss.discriminator(NOTHING, fake, Y, Z), expected)  # real samples say nothing


def test_either_kind_of_code_will_do():
    logits, codes = NOTHING._replace(logits=random(5, 3)), NOTHING._replace(codes=random(5, 2))
    both = logits._replace(codes=codes.codes)
    loss = MutualInformation()
    parts = loss.generator(logits, Y, Z) + loss.generator(codes, Y, Z)
    torch.testing.assert_close(loss.generator(both, Y, Z), parts)


def test_more_codes_than_latents_are_refused():
    with pytest.raises(UserError, match=r"reads 5 continuous codes, but the generator's latent_dim is 4"):
        MutualInformation().generator(NOTHING._replace(codes=random(5, 5)), Y, Z)


@pytest.mark.parametrize("key", ["class_weight", "code_weight"])
def test_negative_code_weights_are_refused(key):
    with pytest.raises(UserError, match=rf"MutualInformation.{key} is -1.0"):
        MutualInformation(**{key: -1.0})


# -------------------------------------------------------------------- what they need

NEEDS = {
    AuxiliaryClassifier: Classifier,
    MultiHinge: Classifier,
    ConditionalContrastive: Contrastive,
    DataToDataCrossEntropy: Contrastive,
    MutualInformation: Codes,
}


@pytest.mark.parametrize("kind", NEEDS)
def test_the_head_that_is_named_is_enough(kind):
    h, y = torch.randn(4, 6), torch.tensor([0, 1, 2, 1])
    loss, head = kind(), NEEDS[kind](6, 3)
    judged = head(h, y)
    assert loss.check(judged) is None
    for term in (
        loss.discriminator(judged, judged, y, torch.randn(4, 8)),
        loss.generator(judged, y, torch.randn(4, 8)),
    ):
        assert term.shape == ()
        assert term.isfinite()
    missing = loss.check(Projection(6, 3)(h, y))
    assert missing is not None
    assert missing.endswith(f"set model.init_args.discriminator.init_args.head to {NEEDS[kind].__name__}")


@pytest.mark.parametrize("kind", [AuxiliaryClassifier, MultiHinge, ConditionalContrastive, DataToDataCrossEntropy])
def test_descending_agrees_with_the_labels(kind):
    """A few hundred steps on free features classify them."""
    torch.manual_seed(0)
    head, features = NEEDS[kind](6, 3), torch.randn(5, 6, requires_grad=True)
    optimizer, loss = torch.optim.Adam([features, *head.parameters()], lr=0.05), kind()
    for _ in range(150):
        optimizer.zero_grad()
        loss.generator(head(features, Y), Y, Z).backward()
        optimizer.step()
    assert head(features, Y).logits.argmax(dim=1).tolist() == Y.tolist()
