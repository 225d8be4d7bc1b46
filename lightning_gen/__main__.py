"""The command `lightning_gen`: answers what it can at once, and imports the rest only when it is needed."""

import os
import sys

import lightning_gen

USAGE = """\
usage: lightning_gen COMMAND [options]

Train, sample and evaluate deep generative models from YAML.

  fit        train:             lightning_gen fit --config configs/gan/dcgan_digits.yaml
  sample     draw images:       lightning_gen sample --ckpt_path runs/…/last.ckpt --num 64 --output samples
  evaluate   FID, IS, a curve:  lightning_gen evaluate --ckpt_path 'runs/…/*.ckpt'
  reference  data measured ahead:  lightning_gen reference --data images --output images.safetensors
  weights    are the weights that metrics need there:  lightning_gen weights check (or fetch)
  validate   one validation of a checkpoint
  test       one test of a checkpoint
  predict    samples through Lightning's prediction loop

  COMMAND --help              the command's options
  fit --print_config          the configuration that a run would use
  --print_completion shtab-bash   shell completion to be sourced (or shtab-zsh, shtab-fish)
  --debug                     with any command: tracebacks of errors
  --version                   the version
"""


def main(args: list[str] | None = None) -> None:
    """Run a command line.

    Args:
        args: words after the program's name; those of the process when None.

    Raises:
        SystemExit: with status 0 when all went well, 2 when the input was at fault, 130 when interrupted.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return
    if args[0] == "--version":
        print(f"lightning_gen {lightning_gen.__version__}")
        return
    if os.getcwd() not in sys.path:  # a network in a file beside the configuration can be named there
        sys.path.append(os.getcwd())  # last: a file there must not stand in for a library
    from lightning_gen.commands import run

    run(args)


if __name__ == "__main__":
    main()
