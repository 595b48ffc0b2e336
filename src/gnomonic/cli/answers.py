"""A small collection that answers questions by meaning, and how the demo shows what it finds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gnomonic.cli.docstrings import Docstring
from gnomonic.cli.progress import duration

if TYPE_CHECKING:
    from rich.console import Console

    from gnomonic.inference.encoder import TextEncoder

__all__ = ["Library", "show_answers", "show_neighbors", "show_timings"]

_BLOCK = 512
_MAX_TOKENS = 256
"""The first sentences say what a thing is for; the rest is details."""

_FAMILIAR = ("shutil.copytree", "json.dumps", "random.shuffle", "statistics.median", "tempfile.mkdtemp")

Hit = tuple[Docstring, float]


class Library:
    """Docstrings with their vectors."""

    def __init__(self, docstrings: Sequence[Docstring], encoder: TextEncoder) -> None:
        self.docstrings = docstrings
        self.encoder = encoder
        self.vectors: NDArray[np.float32] = np.empty((len(docstrings), encoder.spec.hidden_size), np.float32)
        self.tokens = 0
        self.searches: list[float] = []
        """Seconds of each search, the question's own embedding included."""

    def build(self) -> Iterator[int]:
        """Embed all docstrings, shortest first; yields once for each that is done."""
        order = sorted(range(len(self.docstrings)), key=lambda index: len(self.docstrings[index].text))
        for begin in range(0, len(order), _BLOCK):
            block = order[begin : begin + _BLOCK]
            texts = [f"{self.docstrings[index].name}: {self.docstrings[index].text}" for index in block]
            result = self.encoder.encode(texts, task_type="search_document", max_tokens_per_text=_MAX_TOKENS)
            self.vectors[block] = result.vectors
            self.tokens += result.usage.total_tokens
            yield from block

    def search(self, question: str, count: int = 3) -> list[Hit]:
        """Return the docstrings that answer a question best, with their cosine to it."""
        began = time.perf_counter()
        query = self.encoder.encode([question], task_type="search_query").vectors[0]
        hits = self._nearest(query, count)
        self.searches.append(time.perf_counter() - began)
        return hits

    def neighbors(self, name: str, count: int = 3) -> list[Hit]:
        """Return the docstrings nearest to the one of that name; empty when it is not there."""
        places = [index for index, docstring in enumerate(self.docstrings) if docstring.name == name]
        return self._nearest(self.vectors[places[0]], count + 1)[1:] if places else []

    def _nearest(self, query: NDArray[np.float32], count: int) -> list[Hit]:
        cosines = self.vectors @ query
        best = np.argsort(-cosines, kind="stable")[:count]
        return [(self.docstrings[index], float(cosines[index])) for index in best]


def show_answers(console: Console, question: str, hits: Sequence[Hit]) -> None:
    """Print a question and what was found."""
    console.print(f"[bold cyan]?[/] [bold]{_plain(question)}[/]")
    _show_hits(console, hits)


def show_neighbors(console: Console, library: Library) -> None:
    """Print what lies next to a few well-known functions."""
    console.print("[bold]nearest neighbours[/]")
    for name in _FAMILIAR:
        names = [docstring.name for docstring, _ in library.neighbors(name)]
        if names:
            line = f"  [green]{name}[/]  {'  '.join(names)}"
            console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    console.print()


def show_timings(console: Console, library: Library, stages: Mapping[str, float]) -> None:
    """Print the throughput, and where the time went."""
    from rich.table import Table

    spent = library.encoder.timings
    parts = {
        "load the model": stages["load the model"],
        "read and parse the sources": stages["read the sources"],
        "tokenize": spent.tokenize_s,
        "run the model": spent.engine_s,
        "finish the vectors": spent.finish_s,
    }
    total = max(stages["embed"], 1e-6)
    whole = sum(stages.values()) + sum(library.searches)
    parts["everything else"] = max(0.0, whole - sum(parts.values()))
    table = Table(title="where the time went", title_justify="left", box=None, show_header=False, padding=(0, 2))
    for name, seconds in parts.items():
        table.add_row(name, f"{seconds:.2f} s", f"{seconds / whole:.0%}", "█" * round(24 * seconds / whole))
    console.print(table)
    rate = f"{len(library.docstrings) / total:,.0f} texts/s, {library.tokens / total:,.0f} tokens/s"
    console.print(
        f"\n{len(library.docstrings):,} texts, {library.tokens:,} tokens embedded in {duration(total)}: {rate}"
    )
    if library.searches:
        console.print(f"a question takes {1000 * float(np.median(library.searches)):.1f} ms, its embedding included")


def _show_hits(console: Console, hits: Sequence[Hit]) -> None:
    for docstring, cosine in hits:
        line = f"  {cosine:.2f}  [green]{_plain(docstring.name)}[/]  [dim]{_plain(docstring.summary)}[/]"
        console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    console.print()


def _plain(text: str) -> str:
    """Return a text whose square brackets rich prints as they are."""
    from rich.markup import escape

    return escape(text)
