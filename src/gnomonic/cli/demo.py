"""`gnomonic demo`: a map of what the Python standard library says about itself, questions to it, and its page."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.cli.docstrings import Docstring

__all__ = ["demo"]

_QUESTIONS = (
    "pick a random element from a list",
    "copy a whole folder with everything in it",
    "how many seconds are there between two dates?",
    "is this address part of that network?",
    "make a text safe to put into a web page",
)
_ANSWERS = 3


def demo(
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="Map only this many docstrings.")] = None,
    once: Annotated[bool, typer.Option("--once", help="See that the page answers, and end; so without a terminal.")] = (
        False
    ),
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser, where there is one.")] = True,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder; else GNOMONIC_DATA.")] = None,
) -> None:
    """Map the docstrings of Python's standard library, ask questions by meaning, and serve the map's page."""
    from rich.console import Console

    from gnomonic.cli.answers import show_answers
    from gnomonic.cli.docstrings import read_docstrings
    from gnomonic.cli.viewing import check_server, show

    check_server("gnomonic demo")
    console = Console(highlight=False)
    # The name is the id; a property and its setter share one.
    docstrings = list({one.name: one for one in read_docstrings()}.values())
    chosen = docstrings if limit is None else docstrings[:: -(-len(docstrings) // limit)]
    name = "python-docstrings" if limit is None else f"python-docstrings-{limit}"
    made = _map_of(chosen, name, data_dir, console)
    began = time.perf_counter()
    for question in _QUESTIONS:
        hits = made.search(question, k=_ANSWERS, columns=["name", "summary"]).to_pylist()
        show_answers(console, question, [(hit["name"], hit["summary"], hit["_score"]) for hit in hits])
    each_ms = 1000 * (time.perf_counter() - began) / len(_QUESTIONS)
    console.print(f"a question takes {each_ms:.0f} ms, its embedding included; on the page you can ask your own\n")
    show(name, data_dir=data_dir, once=once or not sys.stdout.isatty(), browser=open_)


def _map_of(docstrings: list[Docstring], name: str, root: Path | None, console: Any) -> AtlasMap:
    """Return the map of the docstrings: the one there is, or a new one."""
    from gnomonic.cli.map_progress import MapProgress
    from gnomonic.cli.progress import duration
    from gnomonic.client.datasets import LocalDataset
    from gnomonic.errors import DatasetNotFoundError

    about = f"{len(docstrings):,} docstrings of the standard library of Python {sys.version.split()[0]}"
    with contextlib.suppress(DatasetNotFoundError):
        found = LocalDataset(name, root=root, create=False)
        if found.description == about and found.maps:
            console.print(f"{about}: mapped before\n")
            return found.get_map()
        if found.description != about:  # another Python's
            found.delete()
    dataset = LocalDataset(name, about, "name", root=root)
    began = time.perf_counter()
    console.print(f"{about}, embedded and mapped on this machine, offline\n")
    with MapProgress() as progress:
        if not dataset.total_datums:
            dataset.add_data([_row(one) for one in docstrings])
        made = dataset.create_index(indexed_field="text", on_progress=progress)
    console.print(f"{made.record.rows:,} texts embedded and mapped in {duration(time.perf_counter() - began)}\n")
    return made


def _row(docstring: Docstring) -> dict[str, Any]:
    return {
        "name": docstring.name,
        "kind": docstring.kind,
        "package": docstring.module.partition(".")[0],
        "module": docstring.module,
        "words": len(docstring.text.split()),
        "source_lines": docstring.source_lines,
        "has_example": ">>>" in docstring.text,
        "summary": docstring.summary,
        # The name says much of what a short text is about.
        "text": f"{docstring.name}: {docstring.text}",
    }
