"""How values were measured, as lists of terms and words that a reader understands."""

from dataclasses import dataclass
from typing import Any

TERMS = {
    "metric": "Metric",
    "num_samples": "Samples",
    "seed": "Seed of the samples",
    "higher_is_better": "Better",
    "standard_error": "Standard error",
    "extractor.extractor": "Extractor",
    "extractor.weights_sha256": "Its weights (SHA-256)",
    "extractor.resize": "Resize",
    "extractor.dtype": "Precision of features",
    "extractor.quantisation": "Rounding of samples",
    "reference.split": "Reference: split",
    "reference.num": "Reference: samples",
    "reference.limit": "Reference: limit",
    "reference.fingerprint": "Reference: fingerprint",
    "rows.split": "Rows: split",
    "rows.num": "Rows",
    "rows.limit": "Rows: limit",
    "rows.fingerprint": "Rows: fingerprint",
    "unit": "Unit",
    "likelihood": "Likelihood",
    "splits": "Splits",
    "split_seed": "Seed of the splits",
    "covariance": "Covariance",
}
"""Words for keys of a protocol; others are shown as they are written."""


@dataclass(frozen=True)
class Fact:
    """A term and its value in words; `code` if the value is an identifier, which may break anywhere."""

    term: str
    text: str
    code: bool


@dataclass(frozen=True)
class Protocol:
    """What holds for every metric, and for each what holds for it alone."""

    shared: list[Fact]
    own: dict[str, list[Fact]]


def facts_of(protocol: dict[str, Any]) -> Protocol:
    """The protocol by metric, as lists; what all of several metrics have in common is told once."""
    flat = {name: _flat(how) for name, how in protocol.items()}
    first, *others = flat.values() if flat else [{}]
    shared = [key for key in first if others and all(key in how and how[key] == first[key] for how in others)]
    return Protocol(
        [_fact(key, first[key]) for key in shared],
        {name: [_fact(key, value) for key, value in how.items() if key not in shared] for name, how in flat.items()},
    )


def _flat(value: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, part in value.items():
        found |= _flat(part, f"{above}{key}.") if isinstance(part, dict) and part else {f"{above}{key}": part}
    return found


def _fact(key: str, value: Any) -> Fact:
    term = TERMS.get(key, key.replace(".", ": ").replace("_", " "))
    return Fact(term, _words(key, value), isinstance(value, str) and len(value) >= 32 and " " not in value)


def _words(key: str, value: Any) -> str:
    if key == "higher_is_better":
        return {True: "higher values", False: "lower values"}.get(value, "not said")
    if value is None:
        return "all rows" if key in ("reference.limit", "rows.limit") else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and "seed" not in key:
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
