"""`__all__` is there and complete, and everything in it says what it does; ruff (RUF022) keeps it sorted."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.sources import PACKAGE, modules, tree_of

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign)
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def _definitions(tree: ast.Module) -> dict[str, _Definition]:
    return {node.name: node for node in tree.body if isinstance(node, _Definition)}


def _assigned(tree: ast.Module) -> set[str]:
    """Names bound by assignment or import at module level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {sub.id for sub in ast.walk(node) if isinstance(sub, ast.Name)}
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return names


def _is_command(node: _Definition) -> bool:
    """Whether typer takes the function; nothing imports it then."""
    return any(re.search(r"\bapp\.(command|callback)\b", ast.unparse(mark)) for mark in node.decorator_list)


def _checked() -> list[Path]:
    """Modules that define something; a package's docstring alone needs no list of names."""
    return [path for path in modules() if len(tree_of(path).body) > 1 and path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", _checked(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_all_is_complete(path: Path) -> None:
    tree = tree_of(path)
    exported = _exported(tree)
    assert exported is not None, "no __all__"
    defined = _definitions(tree)
    public = {name for name, node in defined.items() if not name.startswith("_") and not _is_command(node)}
    assert len(exported) == len(set(exported)), "a name stands in __all__ twice"
    assert public - set(exported) == set(), "public but not in __all__: name it there or with an underscore"
    assert set(exported) - set(defined) - _assigned(tree) == set(), "in __all__ but not defined"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_public_is_documented(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), "no module docstring"
    silent = [
        name for name, node in _definitions(tree).items() if not name.startswith("_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_the_root_offers_its_names_lazily_and_completely() -> None:
    import gnomonic

    for name in gnomonic.__all__:
        assert getattr(gnomonic, name) is not None
    assert set(gnomonic.__all__) <= set(dir(gnomonic))
    with pytest.raises(AttributeError, match="no_such_name"):
        gnomonic.no_such_name  # noqa: B018


def test_the_root_names_are_on_the_reference_page() -> None:
    import gnomonic

    page = (PACKAGE.parents[1] / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    public = [name for name in gnomonic.__all__ if not name.startswith("__")]
    assert [name for name in public if f"`{name}" not in page and f"`gnomonic.{name}" not in page] == []
