"""Are planted duplicates found, and is what is found a duplicate?

Among articles of Wikipedia (`--articles` of them) and the docstrings of this Python's standard library, copies of some
texts are planted: exact, in other case, with typos, with a sentence added, with their shortest sentence left out.
Recall is the share of copies that share a group with their text. Precision is the share of deletion candidates that are
a duplicate of the row that is kept: planted, or of which more than half of the runs of four characters are the same,
since both corpora hold near duplicates of their own. Texts are of at least 400 characters: one typo in a line of five
words makes another line. The topics of the map are kept in the result, to be read. Run it as
`python -m benchmarks.duplicates`.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Bar

__all__ = ["main", "measure"]

ARTICLES = harness.ROOT.parent / "shared" / "data" / "text" / "wikipedia_articles.parquet"
MIN_CHARS, MAX_CHARS = 400, 2000
PLANTED = 600
ADDED = ("This page was last checked in 2019.", "More can be found in the archive.", "See also the list of entries.")
SAME = 0.5


def _typos(text: str, chance: random.Random) -> str:
    """Return a text with one letter in 250 changed."""
    letters = list(text)
    for _ in range(max(1, len(letters) // 250)):
        letters[chance.randrange(len(letters))] = chance.choice("abcdefghijklmnopqrstuvwxyz")
    return "".join(letters)


def _without_a_sentence(text: str, chance: random.Random) -> str:
    sentences = re.split(r"(?<=[.!?])\s+", text)
    if len(sentences) < 4:
        return _typos(text, chance)
    del sentences[min(range(1, len(sentences)), key=lambda place: len(sentences[place]))]
    return " ".join(sentences)


EDITS = {
    "exact": lambda text, _: text,
    "lower case": lambda text, _: text.lower(),
    "upper case": lambda text, _: text.upper(),
    "typos": _typos,
    "sentence added": lambda text, chance: f"{text} {chance.choice(ADDED)}",
    "sentence left out": _without_a_sentence,
}


def _runs(text: str) -> set[str]:
    plain = " ".join(text.lower().split())
    return {plain[i : i + 4] for i in range(max(1, len(plain) - 3))}


def _alike(one: str, other: str) -> bool:
    left, right = _runs(one), _runs(other)
    return len(left & right) > SAME * len(left | right)


def measure(texts: list[str], planted: int, workdir: Path) -> dict[str, Any]:
    """Map texts with planted copies at the default cut-off; return recall by edit, and precision."""
    from gnomonic import AtlasDataset

    chance = random.Random(0)
    planted = min(planted, len(texts) // 4)
    sources = chance.sample(range(len(texts)), planted)
    kinds = [list(EDITS)[i % len(EDITS)] for i in range(planted)]
    copies = [EDITS[kind](texts[row], chance) for row, kind in zip(sources, kinds, strict=True)]
    rows = texts + copies
    dataset = AtlasDataset("duplicates", root=workdir / "duplicates")
    try:
        dataset.add_data({"text": rows})
        made = dataset.create_index(indexed_field="text")
        found, tree = made.duplicates.tb, made.topics.tree().splitlines()
    finally:
        dataset.delete()
    group = np.array(found["cluster_id"])
    doomed = np.flatnonzero(np.array(found["duplicate_class"].to_pylist()) == "deletion candidate")
    kept = {int(group[row]): row for row in np.setdiff1d(np.arange(len(rows)), doomed)}
    hits = {kind: [] for kind in EDITS}
    for copy, (row, kind) in enumerate(zip(sources, kinds, strict=True), start=len(texts)):
        hits[kind].append(bool(group[copy] == group[row]))
    source_of = [*range(len(texts)), *sources]
    right = [source_of[row] == source_of[kept[int(group[row])]] for row in doomed]
    true = [same or _alike(rows[row], rows[kept[int(group[row])]]) for row, same in zip(doomed, right, strict=True)]
    return {
        "texts": len(texts), "planted": planted, "recall": float(np.mean(np.concatenate(list(hits.values())))),
        "recall_by_edit": {kind: float(np.mean(each)) for kind, each in hits.items()},
        "precision": float(np.mean(true)), "of_them_planted": float(np.mean(right)), "candidates": len(doomed),
        "topics": tree,
    }  # fmt: skip


def _long(texts: list[str]) -> list[str]:
    return sorted({text[:MAX_CHARS] for text in texts if len(text) >= MIN_CHARS})


def main() -> None:
    parser = harness.common_parser(__doc__.splitlines()[0])
    parser.add_argument("--articles", type=int, default=12_000, help="how many articles")
    args = parser.parse_args()
    # The result tells the command, and not where things are on this machine.
    sys.argv = ["FOLDER" if word == str(args.workdir) else word for word in sys.argv]
    from gnomonic.cli.docstrings import read_docstrings

    corpora = {"docstrings": _long([one.text for one in read_docstrings()])}
    if ARTICLES.is_file():
        import pyarrow.parquet as pq

        corpora["articles"] = _long(pq.read_table(ARTICLES)["text"].to_pylist()[: args.articles])
    if args.quick:
        corpora = {name: texts[:60] for name, texts in corpora.items()}
    results = {name: measure(texts, PLANTED, args.workdir) for name, texts in corpora.items()}
    shown = ("texts", "planted", "recall", "precision")
    rows = [[name, *map(told.get, shown), *told["recall_by_edit"].values()] for name, told in results.items()]
    harness.print_table("duplicates", ["corpus", *shown, *EDITS], rows)
    bars = [
        Bar(name=f"{name}: {what}", value=told[what], limit=0.98, unit="")
        for name, told in results.items()
        for what in ("recall", "precision")
    ]
    harness.print_bars(bars)
    harness.publish("duplicates", {"corpora": results}, bars, args.out if args.quick else args.out or harness.RESULTS)


if __name__ == "__main__":
    main()
