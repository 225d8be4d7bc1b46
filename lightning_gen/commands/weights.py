"""`lightning_gen weights`: whether the weights that metrics need are there, and fetching them."""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from lightning_gen.errors import UserError, nearest
from lightning_gen.files import file_sha256
from lightning_gen.metrics.extractors import digits_classifier, hugging_face_files, inception_weights

Row = tuple[str, str, str, str]
"""A place, the file's size and SHA-256, and the state of it."""


def weights(action: Literal["check", "fetch"], extractor: str | None, output: str | None, **_: Any) -> None:
    """Print where the weights of extractors were looked for and what was found, or fetch them.

    Args:
        action: `check` reads files only; `fetch` downloads.
        extractor: names of extractors, separated by commas. None checks all of them, of which only InceptionV3 must be
            there, or fetches InceptionV3.
        output: where to fetch one extractor's weights to: a file for InceptionV3, a folder for the others. None for the
            cache in which they are looked for.

    Raises:
        UserError: if weights that must be there are not, or cannot be fetched.
    """
    known = {source.name: source for source in sources()}
    names = [name.strip() for name in extractor.split(",")] if extractor else []
    for name in names:
        if name not in known:
            raise UserError(
                f"--extractor {name} has no weights to {action}{nearest(name, known)}: use any of {', '.join(known)}"
            )
    needed = [known[name] for name in names or ["InceptionV3"]]
    if action == "check":
        if output is not None:
            raise UserError(f"--output {output} says where to fetch weights to: leave it out of `weights check`")
        print(_table([(s.name, *row) for s in (needed if names else known.values()) for row in s.places()]), flush=True)
        if problems := [problem for source in needed if (problem := source.problem())]:
            raise UserError("; ".join(problems))
        return
    if output is not None and len(needed) > 1:
        raise UserError(f"--output {output} can hold the weights of one extractor: fetch {', '.join(names)} one by one")
    for source in needed:
        print(f"{source.name}: fetching {source.url}", flush=True)
        for path in source.fetch(None if output is None else Path(output)):
            print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {file_sha256(path)}, OK", flush=True)


class Source(ABC):
    """An extractor's weights.

    Attributes:
        name: the extractor's class.
        url: where the weights are published.
    """

    name: str
    url: str

    @abstractmethod
    def places(self) -> Iterator[Row]:
        """Every place that is looked at, in order."""

    @abstractmethod
    def problem(self) -> str | None:
        """One sentence about what is wrong, None if the weights are there and right."""

    @abstractmethod
    def fetch(self, output: Path | None) -> list[Path]:
        """Download the weights.

        Args:
            output: where to; None for the cache.

        Returns:
            The files with the weights, complete and right.

        Raises:
            UserError: if that fails.
        """


class InceptionSource(Source):
    """The published file of the FID Inception."""

    name, url = "InceptionV3", inception_weights.URL

    def places(self) -> Iterator[Row]:
        """The variable's, then torch hub's cache."""
        variable = inception_weights.VARIABLE
        if named := os.environ.get(variable):
            yield _row(Path(named), f"${variable}: {named}", self._state)
        else:
            yield f"${variable}", "", "", "not set"
        for name in inception_weights.FILE_NAMES:
            yield _row(inception_weights.cache_folder() / name, None, self._state)

    def problem(self) -> str | None:
        """Absent, damaged, or other weights than the published ones."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about weights other than the published ones: told below
            try:
                path = inception_weights.find_local()
            except UserError as error:
                return str(error)
        if path is None:
            return inception_weights.missing("`weights check` downloads nothing")
        if not inception_weights.is_published(file_sha256(path)):
            return (
                f"InceptionV3: ${inception_weights.VARIABLE} {path} is not the published file, so values are not either"
            )
        return None

    def fetch(self, output: Path | None) -> list[Path]:
        """One file, checked against the published SHA-256."""
        target = output or inception_weights.cache_folder()
        if output is None or output.is_dir():
            target = target / inception_weights.FILE_NAMES[0]
        if target.is_file() and inception_weights.is_published(file_sha256(target)):
            return [target]
        if target.exists() and output is not None:
            raise UserError(f"--output {target} exists and is another file: choose another name, or delete it")
        try:
            return [inception_weights.download(target)]
        except OSError as error:
            raise UserError(inception_weights.missing(f"downloading {self.url} failed ({error})")) from error

    def _state(self, sha256: str) -> str:
        return "OK" if inception_weights.is_published(sha256) else "not the published file"


class PackagedSource(Source):
    """The digits classifier, which ships with the package."""

    name, url = "DigitsClassifier", "the package itself"

    def places(self) -> Iterator[Row]:
        """The package's folder."""
        yield _row(digits_classifier.WEIGHTS, None, lambda _: "OK" if self.problem() is None else "damaged")

    def problem(self) -> str | None:
        """The file is read, which checks its format and shapes."""
        try:
            digits_classifier.DigitsClassifier().prepare()
        except Exception as error:  # safetensors and torch raise many kinds
            return f"DigitsClassifier: {digits_classifier.WEIGHTS} cannot be read ({error}): install the package again"
        return None

    def fetch(self, output: Path | None) -> list[Path]:
        """Nothing is to be fetched."""
        raise UserError("--extractor DigitsClassifier ships with the package: there is nothing to fetch")


class HubSource(Source):
    """A model of the Hugging Face hub.

    Args:
        name: the extractor's class.
        model: its default model's name on the hub.
    """

    def __init__(self, name: str, model: str) -> None:
        self.name, self.model, self.url = name, model, f"https://huggingface.co/{model}"

    def places(self) -> Iterator[Row]:
        """The hub's cache."""
        try:
            folder = hugging_face_files.find_local(self.model, self.name)
        except UserError as error:
            yield self.model, "", "", str(error).removeprefix(f"{self.name}: ")
            return
        for file in hugging_face_files.weight_files(folder) if folder else []:
            yield _row(file, None, lambda _: "OK")
        if folder is None:
            from huggingface_hub import constants

            yield f"{self.model} in {constants.HF_HUB_CACHE}", "", "", "absent"

    def problem(self) -> str | None:
        """Not installed, absent, or damaged."""
        try:
            folder = hugging_face_files.find_local(self.model, self.name)
        except UserError as error:
            return str(error)
        if folder is None:
            return hugging_face_files.missing(self.model, self.name, "`weights check` downloads nothing")
        return None

    def fetch(self, output: Path | None) -> list[Path]:
        """Configuration and weights, into the cache or a folder."""
        return hugging_face_files.weight_files(hugging_face_files.download(self.model, self.name, output))


def sources() -> list[Source]:
    """Of every extractor that has weights, with their default arguments."""
    return [
        InceptionSource(),
        PackagedSource(),
        HubSource("DINOv2", "facebook/dinov2-large"),
        HubSource("CLIP", "openai/clip-vit-large-patch14-336"),
    ]


def _row(path: Path, place: str | None, state: Callable[[str], str]) -> Row:
    """What is at a path; `state` judges a SHA-256."""
    if not path.is_file():
        return place or str(path), "", "", "absent"
    sha256 = file_sha256(path)
    return place or str(path), f"{path.stat().st_size:,}", sha256, state(sha256)


def _table(rows: list[tuple[str, ...]]) -> str:
    cells = [("extractor", "place", "bytes", "SHA-256", "state"), *rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)
