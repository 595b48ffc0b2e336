"""How the demo shows what it finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["show_answers"]


def show_answers(console: Console, question: str, answers: Iterable[tuple[str, str, float]]) -> None:
    """Print a question and what was found.

    Args:
        console: where to.
        question: as it was asked.
        answers: of each its name, what it says in a line, and its likeness to the question.
    """
    from rich.markup import escape

    console.print(f"[bold cyan]?[/] [bold]{escape(question)}[/]")
    for name, said, likeness in answers:
        line = f"  {likeness:.2f}  [green]{escape(name)}[/]  [dim]{escape(said)}[/]"
        console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    console.print()
