"""Gnomonic: open text embeddings in the line of Nomic Embed, made on your own machine.

`embed.text([...])` embeds with a model that is part of the package; `load(name_or_folder)` opens any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnomonic.client import embed as embed
    from gnomonic.inference.load import load as load

__all__ = ["__version__", "embed", "load"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Public names are imported on first use, so that `import gnomonic` is instant and loads no runtime.
    if name == "embed":
        from gnomonic.client import embed

        return embed
    if name == "load":
        from gnomonic.inference.load import load

        return load
    raise AttributeError(f"module 'gnomonic' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
