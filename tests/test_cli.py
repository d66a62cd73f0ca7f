"""The `vseg` command: its help, its errors, and how it reaches the other commands."""

import importlib
import inspect
import logging
import re
import subprocess
import sys

import pytest
from absl import logging as absl_logging

from vseg_jax import __version__, cli, commands


@pytest.fixture(autouse=True)
def quiet_log():
    """Takes back what a command in this process sets: the verbosity and a handler."""
    verbosity = absl_logging.get_verbosity()
    yield
    absl_logging.set_verbosity(verbosity)
    logging.root.removeHandler(absl_logging.get_absl_handler())


def said(capsys, *arguments):
    """(exit status, stdout, stderr) of `vseg ARGUMENTS`."""
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


def test_help_lists_every_command_and_needs_no_accelerator():
    code = ("import sys; from vseg_jax import cli; cli.main(['--help']); "
            "assert not {'jax', 'numpy', 'ml_collections', 'absl'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in (*commands.COMMANDS, *cli.TOOLS):
        assert f"\n  {name}  " in done.stdout


def test_version(capsys):
    assert said(capsys, "--version") == (0, f"vseg_jax {__version__}\n", "")


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_of_a_command_shows_its_own_flags_and_examples_line_by_line(name, capsys):
    code, out, _ = said(capsys, name, "--help")
    command = commands.COMMANDS[name]
    own = {*command.required, *command.optional}
    assert code == 0
    for option in commands.OPTIONS:
        assert bool(re.search(rf"\n  --{option}\s", out)) == (option in own), option
    assert all(f"\n  {example}\n" in out for example in command.examples)


@pytest.mark.parametrize("name", cli.TOOLS)
def test_tools_exist_and_take_arguments(name, capsys):
    tool = cli.TOOLS[name]
    main = importlib.import_module(tool.module).main
    assert list(inspect.signature(main).parameters) == ["arguments"]
    code, out, _ = said(capsys, *name.split(), "--help")
    assert code == 0 and out.startswith(f"usage: vseg {name}")
    code, out, err = said(capsys, *name.split(), "--flga", "x")
    assert code == 2 and not out and err.count("\n") == 1
    assert err.startswith("error: ") and err.endswith(" --help)\n")


@pytest.mark.parametrize(("arguments", "error"), [
    (["trian"], "there is no command 'trian'; did you mean 'train'? (see vseg --help)"),
    (["data", "prepar"], "there is no command 'data prepar'; did you mean 'data prepare'?"),
    (["train", "--wrokdir=x"], "there is no flag --wrokdir; did you mean 'workdir'?"),
    (["train", "quickstart"], "unknown arguments: quickstart (see vseg train --help)"),
    (["export", "--short_side=3"], "there is no flag --short_side; "),
    (["predict", "--short_side=x"], "argument --short_side: invalid int value: 'x'"),
    (["models", "x"], "unrecognized arguments: x (see vseg models --help)"),
    (["data", "verify"], "the following arguments are required: name (see vseg data verify --help"),
    (["figures", "rcf", "slot"], "invalid choice: 'slot'"),
    (["train", "--workdir=x"], "--config is missing: "),
    (["evaluate", "--config=quickstart"], "--workdir is missing: folder of the run"),
    (["dry_run", "--config=quikstart"], "there is no config 'quikstart'; did you mean 'quickstart"),
    (["export", "--workdir=x", "--output=y", "--config.clip.length=2"],
     "export reads the config from the workdir and accepts only keys of the model"),
    (["export", "--model=x", "--output=y", "--format", "jax", "onnx"],
     "--format is jax, onnx; export writes one format at a time"),
    (["study", "--config=studies:txt", "--workdir=x"], "studies has no variant 'txt'"),
    (["data", "verify", "davis", "--source=absent"], "absent"),
    (["figures", "rcf", "slots", "absent", "--dataset=x", "--split=y", "--output=z"],
     "there is no folder"),
])
def test_user_errors_end_with_one_line_and_status_2(arguments, error, capsys):
    code, out, err = said(capsys, *arguments)
    assert code == 2 and not out
    assert err.startswith("error: ") and error in err and err.count("\n") == 1


def test_a_group_alone_lists_its_commands(capsys):
    code, _, err = said(capsys, "metrics")
    assert code == 2 and "metrics davis" in err and "data prepare" not in err
    assert said(capsys, "metrics", "--help")[0] == 0
    assert said(capsys)[0] == 2


def test_a_command_receives_its_options_and_overrides(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(commands, "run", lambda *arguments: calls.append(arguments) or 0)
    assert said(capsys, "train", "--config", "qvim:davis", "--config.train.steps", "3",
                "--workdir=run", "--config.text.length=4")[0] == 0
    [(name, options, overrides)] = calls
    assert name == "train" and overrides == {"train.steps": "3", "text.length": "4"}
    assert (options["config"], options["workdir"]) == ("qvim:davis", "run")
    assert options["distributed"] is False


def test_a_non_finite_loss_ends_with_status_1(capsys, monkeypatch):
    def fail(*arguments):
        raise FloatingPointError("loss is nan at step 7")

    monkeypatch.setattr(commands, "run", fail)
    assert said(capsys, "train") == (1, "", "error: loss is nan at step 7\n")
    with pytest.raises(FloatingPointError):
        cli.main(["train", "--verbosity=1"])
