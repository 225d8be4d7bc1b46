"""Subcommands, and what becomes of their errors."""

import sys
from collections.abc import Callable

from lightning_gen.errors import UserError, nearest

LIGHTNING = ("fit", "validate", "test", "predict")
OWN = ("sample", "evaluate", "reference", "weights")


def run(args: list[str]) -> None:
    """Run the subcommand that `args` begins with; bad input ends in one sentence and status 2."""
    debug = "--debug" in args
    args = _one_allow([word for word in args if word != "--debug"])
    try:
        _command(args)(args)
    except UserError as error:
        if debug:
            raise
        _fail(str(error))
    except KeyboardInterrupt:
        if debug:
            raise
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        sentence = None if debug else _sentence(error)
        if sentence is None:
            raise
        _fail(sentence)
    finally:
        _leave_process_group()


def _one_allow(args: list[str]) -> list[str]:
    """Several `--allow` as one, so that none of them is lost."""
    rest: list[str] = []
    packages: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--allow":
            packages.append(next(words, ""))
        elif word.startswith("--allow="):
            packages.append(word.removeprefix("--allow="))
        else:
            rest.append(word)
    return [*rest, f"--allow={','.join(packages)}"] if packages else rest


def _command(args: list[str]) -> Callable[[list[str]], None]:
    if args[0] in LIGHTNING or args[0].startswith("--print_completion"):
        from lightning_gen.cli import main

        return main
    if args[0] in OWN:
        from lightning_gen.commands.parsers import main as own

        return own
    raise UserError(f"{args[0]!r} is not a command{nearest(args[0], (*LIGHTNING, *OWN))}: see lightning_gen --help")


def _fail(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def _leave_process_group() -> None:
    """Stop the group's threads before the interpreter does, which would abort the process now and then."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _sentence(error: Exception) -> str | None:
    """Say in one sentence what a library found wrong with the input; None if it is not about the input."""
    from lightning_gen.commands.explain import explain

    return explain(error)
