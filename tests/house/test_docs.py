"""The documentation covers the program: options, errors, variables, names; and its links and figures hold."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.house.sources import PACKAGE, ROOT, modules, repository_files, tree_of

REFERENCE = ROOT / "docs" / "reference"
_VARIABLE = re.compile(r"^(?:GNOMONIC|HF|XDG)_[A-Z_]+$")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
# Quantities a reader takes for a measurement: they come from benchmarks/results, through docs/generate.py.
_FIGURE = re.compile(r"\d[\d.,]*\s?(?:ms|texts/s|tokens/s|tok/s|MB|GB|MiB|GiB|TFLOP/s|×)(?!\w)")


def _pages() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".md"]


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def _generator() -> ModuleType:
    """Load docs/generate.py, a script and no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the command line -------------------------------------------------------------------------------------------


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    if not hasattr(command, "list_commands"):
        return
    for child in command.list_commands(None):
        yield from _commands(command.get_command(None, child), f"{name} {child}")


def _all_commands() -> list[tuple[str, Any]]:
    import typer

    from gnomonic.cli.main import app

    return list(_commands(typer.main.get_command(app), "gnomonic"))


def test_every_command_and_option_is_on_the_cli_page() -> None:
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    missing = [name for name, _ in _all_commands() if name not in page]
    for name, command in _all_commands():
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        missing += [f"{name} {option}" for option in sorted(options - {"--help"}) if option not in page]
    assert missing == []


def test_every_option_has_a_help_text() -> None:
    silent = [
        f"{name} {parameter.name}"
        for name, command in _all_commands()
        for parameter in command.params
        if parameter.name not in {"help"} and not getattr(parameter, "help", "")
    ]
    assert silent == []


# -- errors and settings ----------------------------------------------------------------------------------------


def _error_classes() -> dict[str, type[Exception]]:
    from gnomonic import errors

    return {name: getattr(errors, name) for name in errors.__all__}


@pytest.mark.parametrize("name", sorted(_error_classes()))
def test_every_error_is_on_the_errors_page(name: str) -> None:
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page


def test_the_errors_page_gives_the_status_drawn_in_the_tree() -> None:
    from gnomonic import errors

    tree = dict(re.findall(r"(\w+Error)(?:\([\w]+\))?[ \t]+(\d{3}|-)(?=\s)", errors.__doc__ or ""))
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]*\| (\d{3}|-) \|", page, flags=re.MULTILINE))
    assert tree.keys() == _error_classes().keys() - {"GnomonicError"}
    assert rows == tree


def test_the_error_tree_names_each_parent_rightly() -> None:
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \| (?:\d{3}|-) \|", page, flags=re.MULTILINE))
    for name, parents in rows.items():
        bases = [base.__name__ for base in _error_classes()[name].__bases__]
        assert re.findall(r"`(\w+)`", parents) == bases, name


def _variables_read() -> set[str]:
    """Environment variables named anywhere in the code that may read them."""
    readers = [PACKAGE / "settings.py", *(PACKAGE / "cli").glob("*.py")]
    return {
        node.value
        for path in readers
        if path.exists()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _VARIABLE.match(node.value)
    }


def test_the_settings_page_lists_exactly_the_variables_that_are_read() -> None:
    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", page, flags=re.MULTILINE))
    assert listed == _variables_read()


def test_every_field_of_the_settings_has_a_description() -> None:
    from gnomonic.settings import Settings

    source = inspect.getsource(Settings)
    for name in Settings.__dataclass_fields__:
        assert re.search(rf'^    {name}: .*\n    """', source, flags=re.MULTILINE), name


# -- pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", _pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [
        target
        for target in _LINK.findall(_without_code(page.read_text(encoding="utf-8")))
        if not target.startswith(("http://", "https://", "mailto:", "#"))
        and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []


def test_the_index_reaches_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / target.partition("#")[0]).resolve() for target in _LINK.findall(index)}
    pages = {path for path in _pages() if (ROOT / "docs") in path.parents} - {ROOT / "docs" / "README.md"}
    assert {str(path.relative_to(ROOT)) for path in pages - linked} == set()


@pytest.mark.parametrize("page", _pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_python_in_a_page_parses_and_imports_what_exists(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        if ">>>" in block:
            continue
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gnomonic":
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_the_first_code_of_the_readme_runs_offline(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code, *_) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    shape = '\nassert output["embeddings"].shape == (2, 256)\n'
    environment = {
        "PYTHONPATH": str(PACKAGE.parent), "HOME": str(tmp_path), "GNOMONIC_OFFLINE": "1", "GNOMONIC_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code + shape], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_names_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        code = re.findall(r"```.*?```|`[^`]+`", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
        used = set(re.findall(r"\bmake ([a-z]+)\b", " ".join(code)))
        assert used <= targets, name


def test_figures_in_the_readme_come_from_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    typed = re.sub(r"<!-- generated:(\w+) -->.*?<!-- /generated:\1 -->", "", text, flags=re.DOTALL)
    assert _FIGURE.findall(_without_code(typed)) == []


def test_generated_parts_are_fresh() -> None:
    assert _generator().stale_files() == [], "run: make docs"


def test_every_exception_lives_in_errors() -> None:
    defined = {
        node.name
        for path in modules()
        for node in tree_of(path).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and not node.name.startswith("_")
    }
    assert defined == _error_classes().keys()
