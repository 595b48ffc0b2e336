"""The docstrings of this machine's Python standard library: thousands of real texts that need no download."""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Docstring", "read_docstrings"]

_SKIPPED = {
    "idlelib",
    "lib2to3",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "turtledemo",
    "__pycache__",
}
_SHORTEST = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Docstring:
    """What one module, class or function says about itself."""

    name: str
    """Where it is, such as "shutil.copytree" or "json.decoder.JSONDecoder.decode"."""
    text: str

    @property
    def summary(self) -> str:
        """Its first paragraph, on one line."""
        return " ".join(self.text.partition("\n\n")[0].split())


def read_docstrings(folder: Path | None = None) -> list[Docstring]:
    """Read the public docstrings below a folder, by parsing the sources; nothing is imported or run.

    Args:
        folder: default is the standard library of the running Python.

    Returns:
        One for each distinct text of at least 30 characters, ordered by file and line.
    """
    root = folder or Path(sysconfig.get_path("stdlib"))
    found: dict[str, Docstring] = {}
    for path in sorted(root.rglob("*.py")):
        inner = path.relative_to(root)
        if _SKIPPED.intersection(inner.parts):
            continue
        names = [*inner.parent.parts, *([] if inner.stem == "__init__" else [inner.stem])]
        if not any(name.startswith("_") for name in names):
            for docstring in _of_file(path, ".".join(names)):
                found.setdefault(docstring.text, docstring)
    return list(found.values())


def _of_file(path: Path, module: str) -> Iterator[Docstring]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # a file this Python cannot read, such as one kept for another version
    yield from _of_node(tree, module)


def _of_node(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> Iterator[Docstring]:
    text = ast.get_docstring(node, clean=False)
    cleaned = inspect.cleandoc(text) if text else ""
    if len(cleaned) >= _SHORTEST:
        yield Docstring(name=name, text=cleaned)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
            yield from _of_node(child, f"{name}.{child.name}")
