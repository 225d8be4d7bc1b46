"""`lightning_gen evaluate`: numbers about checkpoints, or about images that anyone made."""

from typing import Any

from lightning_gen.errors import UserError

Part = str | dict[str, Any]


def evaluate(
    ckpt_path: str | None,
    samples: str | None,
    extractor: Part | None,
    metrics: list[Part] | None,
    num_samples: int | None,
    seed: int | None,
    batch_size: int | None,
    reference: str | None,
    labels: bool,
    num_workers: int | None,
    sampler: Part | None,
    guidance: Part | None,
    standing_statistics: int,
    held_out: list[Part] | None,
    held_out_split: str | None,
    num_held_out: int | None,
    reconstructions: list[Part] | None,
    **options: Any,
) -> None:
    """Measure checkpoints (`sweep`) or files of images (`evaluate_samples`).

    Args:
        ckpt_path: a file, or a pattern of files.
        samples: a folder, archive or array of images, instead of checkpoints.
        extractor: class name of a feature extractor, or `{class_path, init_args}`; None for the recipe's.
        metrics: the same of metrics of samples; None for the recipe's.
        num_samples: samples to measure; None for the recipe's number, or for all there are.
        seed: names the set of samples; None for the recipe's.
        batch_size: samples at a time; None for the recipe's.
        reference: images or statistics to compare with; None for the recipe's data.
        labels: folders of images are classes.
        num_workers: threads that decode images; None for what the CPU cores suggest.
        sampler: class name of a sampler, or `{class_path, init_args}`; None for the recipe's.
        guidance: the same of a guidance.
        standing_statistics: batches to renew running statistics from; 0 for none.
        held_out: class names of metrics of held-out rows, or `{class_path, init_args}`; None for the recipe's.
        held_out_split: the split these are of; None for the recipe's.
        num_held_out: number of its rows; None for the recipe's.
        reconstructions: the same as `metrics` of what is reconstructed from these rows; None for the recipe's.
        options: of the function that does it.

    Raises:
        UserError: for anything wrong with these.
    """
    if (ckpt_path is None) == (samples is None):
        raise UserError("give either --ckpt_path, a checkpoint or a quoted pattern of some, or --samples, their images")
    of_rows = {
        "held_out": parts(held_out),
        "held_out_split": held_out_split,
        "num_held_out": num_held_out,
        "reconstructions": parts(reconstructions),
    }
    chosen = {
        "num_samples": num_samples,
        "seed": seed,
        "batch_size": batch_size,
        "extractor": None if extractor is None else part(extractor),
        "metrics": parts(metrics),
        "reference": reference,
        **of_rows,
    }
    changes = {key: value for key, value in chosen.items() if value is not None}
    if ckpt_path is not None:
        for name, value in (("labels", labels), ("num_workers", num_workers)):
            if value not in (False, None):
                raise UserError(f"--{name} is about files of images, but --ckpt_path draws its own: leave it out")
        from lightning_gen.commands.sampling import Sampling
        from lightning_gen.commands.sweep import sweep

        sampling = Sampling(optional(sampler), optional(guidance), standing_statistics)
        sweep(ckpt_path, changes, sampling=sampling, **options)
        return
    for name, asked in (("sampler", sampler), ("guidance", guidance), ("standing_statistics", standing_statistics)):
        if asked:
            raise UserError(
                f"--{name} is about drawing from checkpoints, but --samples are there already: leave it out"
            )
    for name, given in of_rows.items():
        if given is not None:
            raise UserError(f"--{name} is about rows of a split under a checkpoint's model, but --samples have none")
    from lightning_gen.commands.evaluate_samples import evaluate_samples

    assert samples is not None
    evaluate_samples(samples, changes, labels=labels, num_workers=num_workers, **options)


def part(word: Part) -> dict[str, Any]:
    """A class named on the command line, as `{class_path, init_args}`."""
    return {"class_path": word} if isinstance(word, str) else word


def optional(word: Part | None) -> dict[str, Any] | None:
    """The same, where one is named."""
    return None if word is None else part(word)


def parts(words: list[Part] | None) -> list[dict[str, Any]] | None:
    """Several of them, where any are named."""
    return None if words is None else [part(word) for word in words]
