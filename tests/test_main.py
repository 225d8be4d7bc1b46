"""What the command answers without loading anything heavy."""

import re
import subprocess
import sys

import pytest

import lightning_gen
from lightning_gen.__main__ import main

HEAVY = ("torch", "lightning", "numpy", "jsonargparse", "matplotlib", "sklearn")


@pytest.mark.parametrize("word", ["--help", "-h", "--version"])
def test_help_and_version_import_nothing_heavy(word):
    program = (
        f"import sys; from lightning_gen.__main__ import main; main([{word!r}]);"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_options_of_sample_need_no_torch():
    program = (
        "import sys; from lightning_gen.__main__ import main\n"
        "try: main(['sample', '--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_version_and_usage(capsys):
    main(["--version"])
    assert lightning_gen.__version__ in capsys.readouterr().out
    main([])
    commands = re.findall(r"^  (\w+)  ", capsys.readouterr().out, re.MULTILINE)
    assert commands == ["fit", "sample", "evaluate", "reference", "weights", "validate", "test", "predict"]


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "lightning_gen", "--version"], capture_output=True, text=True, check=True
    )
    assert lightning_gen.__version__ in done.stdout


def test_completion_is_a_shell_script_that_knows_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--print_completion=shtab-bash"])
    script = capsys.readouterr().out
    assert not stop.value.code
    for name in ("fit", "sample", "evaluate", "predict"):
        assert f"_shtab_lightning_gen_{name}_option_strings" in script
    assert len(script) < 5_000_000  # nested options would make hundreds
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
