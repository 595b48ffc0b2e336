"""What `gnomonic datasets info` prints."""

from __future__ import annotations

from typing import Any

__all__ = ["show_facts"]


def show_facts(one: Any) -> None:
    """Print a dataset's columns, and its maps with their settings and quality."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.print(f"{one.identifier}: {one.total_datums:,} rows, made {one.created_timestamp:%Y-%m-%d %H:%M}")
    console.print(f"folder: {one.home.folder}", soft_wrap=True)
    console.print("columns: " + ", ".join(f"{field.name} ({field.type})" for field in one.schema))
    for made in one.maps:
        record = made.record
        console.print(
            f"\nmap {made.name!r}, {record.rows:,} rows × {record.dim}, made {record.created[:16]}, id {made.id}"
        )
        console.print(f"  of: {record.indexed_field or 'given vectors'}, model: {record.model or 'none'}")
        if record.grown_rows:
            console.print(f"  {record.grown_rows:,} rows were placed by their neighbours since it was built")
        for key, value in made.quality.items():
            console.print(
                f"  {key.replace('_', ' ')}: {value:.4g}" if isinstance(value, float) else f"  {key}: {value}"
            )
