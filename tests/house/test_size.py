"""Ceilings: what separates readable codebases is the length of the tail."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.sources import PACKAGE, ROOT, modules, tree_of

MODULE_LINES = 400
FUNCTION_LINES = 60
COMMAND_LINES = 100
PARAMETERS = 6

# Above a ceiling for a reason: "path::function" → why.
EXCEPTIONS: dict[str, str] = {}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _functions(path: Path) -> list[_Function]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, _Function)]


def _is_command(node: _Function) -> bool:
    """Whether a function's parameters are command-line options."""
    return "typer.Option" in ast.unparse(node.args) or "typer.Argument" in ast.unparse(node.args)


def _parameters(node: _Function) -> int:
    """Count parameters; keyword-only ones of a public function are options and do not count."""
    positional = [arg.arg for arg in [*node.args.posonlyargs, *node.args.args]]
    count = len(positional) - (positional[:1] in (["self"], ["cls"]))
    is_option_bearer = not node.name.startswith("_") or node.name == "__init__"
    return count if is_option_bearer else count + len(node.args.kwonlyargs)


@pytest.mark.parametrize("path", modules(), ids=_identify)
def test_a_module_fits(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", modules(), ids=_identify)
def test_functions_fit(path: Path) -> None:
    too_long = [
        f"{node.name} has {length} lines"
        for node in _functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
        and f"{_identify(path)}::{node.name}" not in EXCEPTIONS
    ]
    assert too_long == []


@pytest.mark.parametrize("path", modules(), ids=_identify)
def test_functions_take_few_parameters(path: Path) -> None:
    too_many = [
        f"{node.name} takes {count}"
        for node in _functions(path)
        if (count := _parameters(node)) > PARAMETERS
        and not _is_command(node)
        and f"{_identify(path)}::{node.name}" not in EXCEPTIONS
    ]
    assert too_many == []


def test_a_command_fits_one_screen_or_two() -> None:
    files = [path for path in (PACKAGE / "cli").glob("*.py") if path.name != "main.py"]
    commands = [path for path in files if any(map(_is_command, _functions(path)))]
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in commands}
    assert {name: lines for name, lines in lengths.items() if lines > COMMAND_LINES} == {}


def test_packages_hold_no_logic() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        limit = 60 if path.parent == PACKAGE else 20
        assert len(path.read_text(encoding="utf-8").splitlines()) <= limit, _identify(path)


def test_exceptions_are_still_needed() -> None:
    present = {f"{_identify(path)}::{node.name}" for path in modules() for node in _functions(path)}
    assert set(EXCEPTIONS) <= present
