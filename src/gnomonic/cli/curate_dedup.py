"""`gnomonic curate dedup`: drop rows that repeat others, or that an evaluation will ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gnomonic.cli.curate_options import Files, Output, Overwrite, ReportOnly

__all__ = ["dedup"]

_BY = "What must be alike: pair (query and document, each), query or document."
_ALIKE = "Share of runs of three words in common from which texts are duplicates; 1 finds equal ones only."
_AGAINST = "Evaluation files; rows that hold one of their texts are dropped. A folder, or a file; several times."
_NGRAM = "Words of the runs that are compared with --against."
_HELD = "Share of the shorter text's runs from which a row holds an evaluation text."


def dedup(
    files: Files,
    *,
    output: Output,
    by: Annotated[str, typer.Option(help=_BY)] = "pair",
    similarity: Annotated[float, typer.Option(help=_ALIKE)] = 0.8,
    against: Annotated[list[Path] | None, typer.Option(help=_AGAINST)] = None,
    ngram: Annotated[int, typer.Option(min=2, help=_NGRAM)] = 8,
    containment: Annotated[float, typer.Option(help=_HELD)] = 0.8,
    report_only: ReportOnly = False,
    overwrite: Overwrite = False,
) -> None:
    """Drop equal and near-equal rows, and rows that evaluation files hold; killed, the same command goes on."""
    from gnomonic.cli.curation import Target, curate, judged_files

    target = Target(files=tuple(files), output=output, report_only=report_only, overwrite=overwrite)
    target.check()
    from gnomonic.training.curation.dedup import DedupConfig, dedup_report, find_duplicates
    from gnomonic.training.curation.overlap import OverlapConfig, find_overlap, read_judged

    config, checks = DedupConfig(by=by, similarity=similarity), OverlapConfig(ngram=ngram, containment=containment)
    judged = read_judged(judged_files(against)) if against else None
    with curate(target) as work:
        found = find_duplicates(work.pairs, config, work.place)
        overlap = find_overlap(work.pairs, judged, checks, work.place) if judged else None
        report = dedup_report(work.pairs, found, config, overlap=overlap, judged=judged)
        work.finish(report, found.kept & (overlap.text < 0) if overlap else found.kept)
