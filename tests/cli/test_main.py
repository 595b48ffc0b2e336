"""The frame around all commands: exit codes, messages, help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gnomonic import __version__, errors
from gnomonic.cli import main
from gnomonic.cli.reference import render

ROOT = Path(__file__).parents[2]


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.argv[1:] = {list(arguments)!r}\n{code}"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> CliRunner:
    """Make `gnomonic demo` raise an error."""

    def demo() -> None:
        raise error

    monkeypatch.setattr("gnomonic.cli.demo.demo", demo)
    return CliRunner()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("bad"), 2),
        (errors.UnknownModelError("bad"), 2),
        (errors.ConfigError("bad"), 2),
        (errors.CheckpointError("bad"), 2),
        (errors.MissingExtraError("atlas", needed_for="bad"), 2),
        (errors.EngineError("bad"), 1),
        (errors.GnomonicError("bad"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else type(value).__name__,
)
def test_the_exit_code_says_whose_mistake_it_was(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    assert _raising(monkeypatch, error).invoke(main.app, ["demo"]).exit_code == code


def test_an_error_is_a_line_and_a_hint_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = _raising(monkeypatch, errors.InputError("it is wrong", hint="do it right"))
    result = runner.invoke(main.app, ["demo"])
    assert result.stderr == "error: it is wrong\nhint: do it right\n"
    assert result.stdout == ""


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = _raising(monkeypatch, errors.InputError("it is wrong"))
    assert "Traceback" in runner.invoke(main.app, ["--debug", "demo"]).stderr


def test_a_defect_is_told_in_two_lines_and_ends_with_1() -> None:
    code = (
        "import gnomonic.cli.demo\n"
        "def demo(): raise RuntimeError('surprise')\n"
        "gnomonic.cli.demo.demo = demo\n"
        "from gnomonic.cli.main import app_main; app_main()"
    )
    result = _run(code, "demo")
    assert result.returncode == 1
    assert result.stderr.startswith("error: unexpected RuntimeError: surprise\nhint: ")
    assert "Traceback" not in result.stderr
    assert "Traceback" in _run(code, "--debug", "demo").stderr


@pytest.mark.parametrize("arguments", [["no-such-command"], ["embed"], ["embed", "in.txt", "--no-such-option"]])
def test_a_mistyped_call_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main.app, arguments).exit_code == 2


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(main.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"gnomonic {__version__}\n")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "from gnomonic.cli.main import app_main\n"
        "try: app_main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'pyarrow', 'tokenizers', 'transformers', 'huggingface_hub', 'httpx'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    result = _run(code, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "embed" in result.stdout


def test_the_reference_page_is_fresh() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert page == render(), "run: python -m gnomonic.cli.reference > docs/reference/cli.md"


def test_every_command_is_found() -> None:
    group = typer.main.get_command(main.app)
    names = group.list_commands(None)
    assert "embed" in names
    assert all(group.get_command(None, name).name == name for name in names)
