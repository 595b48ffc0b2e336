"""What keeps Lance's files few and their indices whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from gnomonic.atlas.row_state import RowState
from gnomonic.atlas.store import VersionInfo

__all__ = ["index_values", "index_words", "is_scattered", "join_files", "word_columns"]

log = logging.getLogger(__name__)

_SMALL_WRITES = 64
_ROWS_A_WRITE = 500
"""Files are joined after 64 writes that brought a quarter of the rows, or one write more for every 500 rows: joining
rewrites everything, so the larger the store, the more writes it waits for."""
_CLOCK_SLACK_S = 60.0
_AT_ONCE = timedelta(milliseconds=1)


def is_scattered(state: RowState) -> bool:
    """Whether writes have left so many files that joining them pays."""
    rows = state.versions[-1].rows if state.versions else 0
    grown = state.small_rows * 4 >= rows
    return state.small_writes >= _SMALL_WRITES + (0 if grown else rows // _ROWS_A_WRITE)


def index_values(table: Any, column: str) -> None:
    """Index a column of strings or numbers, unless it is indexed."""
    from lancedb.index import BTree

    if all(list(index.columns) != [column] for index in table.list_indices()):
        table.create_index(column, config=BTree(), replace=True)


def index_words(table: Any, column: str) -> None:
    """Index a column of texts for search by words."""
    from lancedb.index import FTS

    # Positions would only serve phrases, and crash Lance's compaction when rows came after the index. Words are not cut
    # to stems, because texts may be of any language; `icu` finds words where no spaces part them.
    words = FTS(
        with_position=False, base_tokenizer="icu/split", stem=False, remove_stop_words=False, ascii_folding=True
    )
    table.create_index(column, config=words, replace=True)


def word_columns(table: Any) -> set[str]:
    """Return the columns that are indexed for search by words."""
    return {index.columns[0] for index in table.list_indices() if index.index_type == "FTS"}


def join_files(table: Any, versions: Sequence[VersionInfo], keep_s: float) -> None:
    """Join small files, bring indices up to date, and remove versions that were not the newest one lately.

    Args:
        table: Lance's, at its newest version; nobody else may write.
        versions: those that count, oldest first.
        keep_s: versions that were the newest one in so many seconds before now are kept.
    """
    words = word_columns(table)
    try:
        _optimize(table, versions, keep_s)
    except (RuntimeError, ValueError) as error:
        # An index can be made again; one that stops the files from being joined must not fill the disk.
        log.warning("indices are made again, for they stop files from being joined: %s", error)
        for index in table.list_indices():
            table.drop_index(index.name)
        _optimize(table, versions, keep_s)
        for column in sorted(words):
            index_words(table, column)


def _optimize(table: Any, versions: Sequence[VersionInfo], keep_s: float) -> None:
    now = datetime.now(UTC)
    oldest = now
    # A version was the newest one until the next came, so the last one before the time to keep is kept too.
    for version in reversed(versions):
        oldest = datetime.fromisoformat(version.created)
        if (now - oldest).total_seconds() > keep_s:
            break
    # Nobody else writes, so files that belong to no version were left by writers that were killed.
    if keep_s:
        age = now - oldest + timedelta(seconds=_CLOCK_SLACK_S)
        table.optimize(cleanup_older_than=age, delete_unverified=True)
    else:
        # Lance removes old files before it joins the new ones, so the files it has just joined go the second time.
        table.optimize(cleanup_older_than=_AT_ONCE, delete_unverified=True)
        table.optimize(cleanup_older_than=_AT_ONCE, delete_unverified=True)
