"""The HTML report: one self-contained file, its plot drawn as SVG, no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gnomonic.evaluation.report import Judged, Line, lines, markdown

__all__ = ["html", "plot"]

_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 210, 20, 45
_COLOURS = ("#0b6e8a", "#c8501e", "#5b7f2b", "#7a4fa3", "#b08a00", "#444444")
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8886; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
"""


def html(judged: Judged, settings: Mapping[str, Any]) -> str:
    """Return the report as an HTML page."""
    body = "\n".join(_blocks(markdown(judged, settings)))
    style = f"<style>{_STYLE}</style>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Evaluation</title>{style}'
    heading, rest = body.split("\n", 1)
    drawn = plot(lines(judged))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{heading}\n{drawn}\n{rest}\n</body></html>\n'


def plot(found: Sequence[Line]) -> str:
    """Draw the mean over all tasks against the number of dimensions (logarithmic) as SVG; "" with nothing to draw."""
    series: dict[str, list[tuple[int, float]]] = {}
    for line in found:
        if line.dim and line.mean is not None:
            series.setdefault(f"{line.name} {line.precision}", []).append((line.dim, 100 * line.mean))
    points = [point for measured in series.values() for point in measured]
    if not points:
        return ""
    dims = sorted({dim for dim, _ in points})
    low, high = math.floor(min(y for _, y in points)) - 1, math.ceil(max(y for _, y in points)) + 1
    first, last = math.log2(dims[0]) - 0.2, math.log2(dims[-1]) + 0.2

    def place(dim: float, mean: float) -> tuple[float, float]:
        x = _LEFT + (math.log2(dim) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        return x, _TOP + (high - mean) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [*_axes(dims, low, high, place)]
    for index, (name, measured) in enumerate(series.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        places = [place(*point) for point in sorted(measured)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), (dim, mean) in zip(places, sorted(measured), strict=True):
            said = f"<title>{escape(name)}, {dim} dimensions: {mean:.2f}</title>"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">{said}</circle>')
        y = _TOP + 12 + 20 * index
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 15}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 31}" y="{y}">{escape(_short(name))}</text>')
    title = f'<text x="{_LEFT}" y="{_HEIGHT - 6}">mean score by dimensions</text>'
    label = "Mean score of each model by the number of dimensions"
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}{title}</svg>'


def _axes(dims: Sequence[int], low: int, high: int, place: Any) -> list[str]:
    parts = []
    for mean in range(low, high + 1, max(1, (high - low) // 6)):
        _, y = place(dims[0], mean)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mean}</text>'
        )
    for dim in dims:
        x, y = place(dim, low)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{dim}</text>')
    return parts


def _short(name: str) -> str:
    """Keep the end of a long name: paths differ there."""
    return name if len(name) <= 26 else "…" + name[-25:]


def _blocks(page: str) -> list[str]:
    """Turn the report's own Markdown (headings, tables, lists, paragraphs) into HTML."""
    found = []
    for block in page.strip().split("\n\n"):
        rows = block.split("\n")
        if block.startswith("#"):
            level = len(block) - len(block.lstrip("#"))
            found.append(f"<h{level}>{escape(block[level:].strip())}</h{level}>")
        elif block.startswith("|"):
            found.append(_html_table([[cell.strip() for cell in row.strip("|").split("|")] for row in rows]))
        elif block.startswith("* "):
            found.append("<ul>" + "".join(f"<li>{escape(row[2:])}</li>" for row in rows) + "</ul>")
        else:
            found.append(f"<p>{escape(block)}</p>")
    return found


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[2:])
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
