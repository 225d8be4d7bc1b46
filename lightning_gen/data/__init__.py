"""Where data come from: one DataModule a source, and how samples of each modality are stored, shown and written."""

from lightning_gen.data.base import DataModule
from lightning_gen.data.binarised import Binarised, DynamicallyBinarised, Thresholded
from lightning_gen.data.cifar10 import CIFAR10
from lightning_gen.data.digits import Digits
from lightning_gen.data.factors import Factors
from lightning_gen.data.few_labels import FewLabels
from lightning_gen.data.image_arrays import ImageArrays
from lightning_gen.data.image_folder import ImageFolder
from lightning_gen.data.loader import Companion, EvalLoader, SeedLoader, TrainLoader
from lightning_gen.data.mnist import MNIST, FashionMNIST
from lightning_gen.data.modality import Images, Modality, Points
from lightning_gen.data.points2d import Checkerboard2D, Grid2D, Moons2D, Ring2D
from lightning_gen.data.rows import Batch, Rows, TensorRows
from lightning_gen.data.stacked import Stacked

__all__ = [
    "CIFAR10",
    "MNIST",
    "Batch",
    "Binarised",
    "Checkerboard2D",
    "Companion",
    "DataModule",
    "Digits",
    "DynamicallyBinarised",
    "EvalLoader",
    "Factors",
    "FashionMNIST",
    "FewLabels",
    "Grid2D",
    "ImageArrays",
    "ImageFolder",
    "Images",
    "Modality",
    "Moons2D",
    "Points",
    "Ring2D",
    "Rows",
    "SeedLoader",
    "Stacked",
    "TensorRows",
    "Thresholded",
    "TrainLoader",
]
