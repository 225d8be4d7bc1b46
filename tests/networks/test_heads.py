"""What discriminators read off their last features."""

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.networks import Classifier, Codes, Contrastive, DCGANDiscriminator, Discriminator, Projection


def features(batch=5, num=6):
    torch.manual_seed(0)
    return torch.randn(batch, num, dtype=torch.float64)


def score(head, h):
    return torch.stack([(head.score.weight[0] * row).sum() + head.score.bias[0] for row in h])


@pytest.mark.parametrize(
    "head", [Projection(6), Projection(6, 4), Classifier(6, 4), Contrastive(6, 4, dim=3), Codes(6, 4), Codes(6)]
)
def test_all_score_linearly_and_return_the_features(head):
    h, y = features(), torch.zeros(5, 4, dtype=torch.float64)
    judged = head.double()(h, y if head.num_classes else None)
    torch.testing.assert_close(judged.scores, score(head, h))  # no attribute holds, so the projection is 0
    assert judged.features is h


def test_projection_adds_the_inner_product():
    head, h, y = Projection(6, 4).double(), features(), torch.tensor([0, 3, 1, 1, 2])
    inner = torch.stack([(head.embed.weight[c] * row).sum() for c, row in zip(y.tolist(), h, strict=True)])
    torch.testing.assert_close(head(h, y).scores, score(head, h) + inner)
    two = torch.tensor([[1.0, 0, 0, 1]] * 5, dtype=torch.float64)
    inner = (h * (head.embed.weight[0] + head.embed.weight[3])).sum(dim=1)
    torch.testing.assert_close(head(h, two).scores, score(head, h) + inner)


def test_projection_starts_at_the_scale_of_the_score():
    torch.manual_seed(0)
    assert Projection(400, 50).embed.weight.std().item() == pytest.approx(0.05, rel=0.05)


def test_classifier_has_linear_logits_and_a_score_that_does_not_see_the_class():
    head, h = Classifier(6, 4).double(), features()
    judged = head(h, torch.tensor([0, 1, 2, 3, 0]))
    torch.testing.assert_close(judged.logits, h @ head.classify.weight.T + head.classify.bias)
    torch.testing.assert_close(judged.scores, head(h, torch.tensor([3, 3, 3, 3, 3])).scores)


def test_contrastive_gives_unit_embeddings_and_cosines():
    torch.manual_seed(1)
    head, h = Contrastive(6, 4, dim=3).double(), features()
    judged = head(h)
    torch.testing.assert_close(judged.embedding.norm(dim=1), torch.ones(5, dtype=torch.float64))
    raw = h @ head.embed.weight.T + head.embed.bias
    for b in range(5):
        for c in range(4):
            cosine = nn.functional.cosine_similarity(raw[b], head.proxies.weight[c], dim=0)
            torch.testing.assert_close(judged.logits[b, c], cosine)


@pytest.mark.parametrize(("num_classes", "continuous"), [(4, 2), (None, 3), (4, 0)])
def test_codes(num_classes, continuous):
    head, h = Codes(6, num_classes, continuous, width=7).double(), features()
    judged = head(h)
    first, _, last = head.read
    hidden = h @ first.weight.T + first.bias
    expected = torch.where(hidden > 0, hidden, 0.1 * hidden) @ last.weight.T + last.bias
    found = [part for part in (judged.logits, judged.codes) if part is not None]
    torch.testing.assert_close(torch.cat(found, dim=1), expected)
    assert (judged.logits is None) == (num_classes is None)
    assert judged.codes is None if continuous == 0 else judged.codes.shape == (5, continuous)


@pytest.mark.parametrize("head", [Classifier, Contrastive])
def test_heads_that_need_classes_say_so(head):
    with pytest.raises(UserError, match=f"head {head.__name__} needs classes, but num_classes is None"):
        head(6)


@pytest.mark.parametrize(("num_classes", "continuous"), [(None, 0), (4, -1)])
def test_codes_need_a_code(num_classes, continuous):
    with pytest.raises(UserError, match=f"continuous is {continuous}"):
        Codes(6, num_classes, continuous)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, Projection),
        ({"head": "lightning_gen.networks.Classifier"}, Classifier),
        ({"head": {"class_path": "lightning_gen.networks.Contrastive", "init_args": {"dim": 9}}}, Contrastive),
    ],
)
def test_heads_are_chosen_by_name_in_a_configuration(given, kind):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=Discriminator)
    init_args = {"image_size": 8, "width": 4, "num_classes": 3} | given
    class_path = "lightning_gen.networks.DCGANDiscriminator"
    built = parser.instantiate(parser.parse_object({"net": {"class_path": class_path, "init_args": init_args}}))
    assert isinstance(built.net, DCGANDiscriminator)
    assert type(built.net.head) is kind
    if kind is Contrastive:
        assert built.net.head.embed.out_features == 9
