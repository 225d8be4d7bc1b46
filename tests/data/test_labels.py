import pytest
import torch

from lightning_gen.data import DataModule, Points, TensorRows
from lightning_gen.errors import UserError


class Labelled(DataModule):
    """Points with the labels given."""

    modality = Points()
    sample_shape = (2,)
    splits = ("train",)
    num_classes = 3

    def __init__(self, y) -> None:
        super().__init__()
        self.y = y

    def load_split(self, name):
        return TensorRows(torch.zeros(len(self.y), 2), self.y)


@pytest.mark.parametrize(
    "y", [torch.tensor([0, 1, 2]), torch.tensor([1], dtype=torch.uint8), torch.zeros(0), torch.eye(3)]
)
def test_labels_in_range_pass(y):
    assert torch.equal(Labelled(y).split("train").y, y.to(torch.float32 if y.is_floating_point() else torch.int64))


@pytest.mark.parametrize(
    ("y", "told"),
    [
        (torch.tensor([0, 3, 1]), "has label 3, but num_classes is 3: labels must be from 0 to 2"),
        (torch.tensor([0, -1, 7]), "has label -1, but num_classes is 3"),
        (torch.tensor([5_000_000, 1]), "has label 5000000, but"),
        (torch.eye(4), r"has attributes of shape \(4, 4\) from 0 to 1, but num_classes is 3: they must be 3 columns"),
        (torch.eye(3) * 2 - 1, r"has attributes of shape \(3, 3\) from -1 to 1, .* of 0 and 1"),
        (torch.full((2, 3), torch.nan), r"has attributes of shape \(2, 3\) from nan to nan"),
    ],
)
def test_labels_out_of_range_are_refused(y, told):
    data = Labelled(y)
    for use in (lambda: data.setup("fit"), lambda: data.split("train"), lambda: list(data.rows("train"))):
        with pytest.raises(UserError, match=f"Labelled: split 'train' {told}"):
            use()
