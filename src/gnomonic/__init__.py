"""Gnomonic: open text embeddings and maps in the line of Nomic Embed and Atlas, made on your own machine.

`embed.text([...])` embeds with a model that is part of the package; `load(name_or_folder)` opens any other.
`AtlasDataset(name)` holds rows and makes maps of them; `map_data(...)` does it in one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnomonic.client import embed as embed
    from gnomonic.client.datasets import AtlasDataset as AtlasDataset
    from gnomonic.client.datasets import map_data as map_data
    from gnomonic.inference.load import load as load

__all__ = ["AtlasDataset", "__version__", "embed", "load", "map_data"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Public names are imported on first use, so that `import gnomonic` is instant and loads no runtime.
    if name == "embed":
        from gnomonic.client import embed

        return embed
    if name == "load":
        from gnomonic.inference.load import load

        return load
    if name in ("AtlasDataset", "map_data"):
        from gnomonic.client import datasets

        return getattr(datasets, name)
    raise AttributeError(f"module 'gnomonic' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
