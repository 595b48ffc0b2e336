"""What must not stand in the tree, and where a few things alone may stand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.sources import PACKAGE, ROOT, imports_of, modules, repository_files, tree_of

BANNED_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
BANNED_NAMES = {"utils", "util", "common", "helpers", "core", "misc"}
# Spelt in pieces, so that the rule does not find itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:work|farm|root|home/\w+|Users/\w+|tmp/\w+)/")
BINARY = {".safetensors", ".png", ".webp", ".npy", ".parquet", ".onnx", ".gz", ".woff2"}


def _text_files() -> list[Path]:
    return [path for path in repository_files() if path.suffix not in BINARY and path.name != "vocab.txt"]


def _place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def _calls(path: Path) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]


def _may_read_environment(path: Path) -> bool:
    return path == PACKAGE / "settings.py" or (PACKAGE / "cli") in path.parents


def test_only_settings_and_the_command_line_read_the_environment() -> None:
    found = [
        _place(path, node)
        for path in modules()
        if not _may_read_environment(path)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv", "os.environb"}
    ]
    assert found == []


def test_nothing_prints() -> None:
    banned = {"print", "sys.stdout.write", "sys.stderr.write"}
    found = [_place(path, node) for path in modules() for name, node in _calls(path) if name in banned]
    assert found == [], "log, or let the command line say it with typer.echo or rich"


def test_nothing_unpickles_or_runs_what_it_read() -> None:
    imported = [
        f"{path.relative_to(ROOT)}:{item.line} imports {item.name}"
        for path in modules()
        for item in imports_of(path)
        if item.name.partition(".")[0] in BANNED_MODULES
    ]
    called = [
        f"{_place(path, node)} calls {name}"
        for path in modules()
        for name, node in _calls(path)
        if name in {"eval", "exec", "torch.load", "torch.save"} or "trust_remote_code=True" in ast.unparse(node)
    ]
    loads = [
        f"{_place(path, node)} lets numpy unpickle"
        for path in modules()
        for _, node in _calls(path)
        if any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)
    ]
    assert imported + called + loads == []


def test_logging_is_configured_by_the_command_line_only() -> None:
    setters = {"logging.basicConfig", "logging.disable", "logging.config.dictConfig"}
    found = [
        _place(path, node)
        for path in modules()
        if (PACKAGE / "cli") not in path.parents
        for name, node in _calls(path)
        if name in setters or name.endswith((".addHandler", ".setLevel"))
    ]
    assert found == []


def test_no_module_is_a_drawer() -> None:
    named = {path for path in modules() if {path.stem, *path.relative_to(PACKAGE).parts[:-1]} & BANNED_NAMES}
    assert {str(path.relative_to(ROOT)) for path in named} == set()


@pytest.mark.parametrize("rule", [UNFINISHED, MACHINE_PATHS], ids=["unfinished marks", "machine paths"])
def test_files_are_free_of(rule: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in _text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if rule.search(line)
    ]
    assert found == []


def test_files_outside_the_assets_are_small() -> None:
    assets = PACKAGE / "assets"
    large = [
        f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes"
        for path in repository_files()
        if assets not in path.parents and path.stat().st_size > 1_000_000
    ]
    assert large == []


def _is_fixture(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    marks = map(ast.unparse, node.decorator_list)
    return any("fixture" in mark or "composite" in mark for mark in marks)


def test_every_function_of_a_test_file_runs() -> None:
    """A function named neither test_… nor _… in a test file is a test that never runs."""
    found = [
        f"{_place(path, node)} {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith(("test_", "_"))
        and not _is_fixture(node)
    ]
    assert found == []


def test_test_files_mirror_the_package() -> None:
    own = {"house", "benchmarks", "browser", "clients", "golden", "recipes", "docs"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    units = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert folders - own - units == set()
