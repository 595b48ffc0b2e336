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

_Node = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True, slots=True)
class Docstring:
    """What one module, class or function says about itself."""

    name: str
    """Where it is, such as "shutil.copytree" or "json.decoder.JSONDecoder.decode"."""
    text: str
    module: str = ""
    """The module it stands in, such as "json.decoder"."""
    kind: str = "function"
    """"module", "class", "method" or "function"."""
    source_lines: int = 0
    """Of the whole of it, not of its text alone."""

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
    for node, name, kind in _nodes(tree, module, "module"):
        text = ast.get_docstring(node, clean=False)
        cleaned = inspect.cleandoc(text) if text else ""
        if len(cleaned) >= _SHORTEST:
            last, first = (node.body[-1].end_lineno or 0), 1 if isinstance(node, ast.Module) else node.lineno
            yield Docstring(name=name, text=cleaned, module=module, kind=kind, source_lines=last - first + 1)


def _nodes(node: _Node, name: str, kind: str) -> Iterator[tuple[_Node, str, str]]:
    """Yield what has a name and may have a docstring, with name and kind; private ones are passed over."""
    yield node, name, kind
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    inner = "function" if isinstance(node, ast.Module) else "method"
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
            yield from _nodes(child, f"{name}.{child.name}", "class" if isinstance(child, ast.ClassDef) else inner)
