"""The compiled loops of the map: plain C functions in one shared library, made when the package is installed."""

from gnomonic.atlas.kernels.loading import library, pointer, threads

__all__ = ["library", "pointer", "threads"]
