"""`gnomonic demo`: ask questions of the Python standard library, by meaning, with the model of the package."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

__all__ = ["demo"]

_QUESTIONS = (
    "copy a whole folder with everything in it",
    "pick a random element from a list",
    "how many seconds are there between two dates?",
    "run another program and read what it prints",
    "is this address part of that network?",
    "make a text safe to put into a web page",
)


def demo(
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="Embed only this many docstrings.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Answer the prepared questions and end.")] = False,
) -> None:
    """Embed the docstrings of Python's standard library and find what answers a question."""
    from rich.console import Console
    from rich.progress import track

    from gnomonic.catalog import DEFAULT_TEXT_MODEL
    from gnomonic.cli.answers import Library, show_answers, show_neighbors, show_timings

    console = Console(highlight=False)
    began = time.perf_counter()
    from gnomonic.inference.load import load

    encoder = load(DEFAULT_TEXT_MODEL)
    loaded = time.perf_counter()
    from gnomonic.cli.docstrings import read_docstrings

    docstrings = read_docstrings()
    chosen = docstrings if limit is None else docstrings[:: -(-len(docstrings) // limit)]
    read = time.perf_counter()
    console.print(
        f"{len(chosen):,} docstrings of Python {sys.version.split()[0]}, embedded with {encoder.spec.name} "
        f"({encoder.engine.name}, {encoder.engine.precision}) on this machine, offline\n"
    )
    library = Library(chosen, encoder)
    for step in track(library.build(), "embedding", total=len(chosen), console=console, transient=True):
        del step
    embedded = time.perf_counter()
    for question in _QUESTIONS:
        show_answers(console, question, library.search(question))
    show_neighbors(console, library)
    stages = {"load the model": loaded - began, "read the sources": read - loaded, "embed": embedded - read}
    show_timings(console, library, stages)
    while not once and sys.stdin.isatty() and console.is_terminal:
        question = console.input("\n[bold]your question[/] (empty to end): ").strip()
        if not question:
            break
        show_answers(console, question, library.search(question))
