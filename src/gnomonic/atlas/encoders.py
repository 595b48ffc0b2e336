"""What a dataset asks of whoever embeds for it; the map's half never opens a model itself."""

from __future__ import annotations

from typing import Protocol

from gnomonic.atlas.embedding import Encode
from gnomonic.atlas.options import EmbedOptions
from gnomonic.errors import InputError

__all__ = ["Encoders", "NoEncoders"]


class Encoders(Protocol):
    """Opens models by name."""

    def model_of(self, modality: str, options: EmbedOptions) -> str:
        """Return the name of the model that would embed "text" or "image" with these options.

        Raises:
            InputError: there is none, or it embeds something else.
        """
        ...

    def open(self, modality: str, options: EmbedOptions) -> Encode:
        """Return what embeds texts, or images as bytes, with these options.

        Raises:
            GnomonicError: the model cannot be opened.
        """
        ...


class NoEncoders:
    """For datasets whose rows come with their vectors; implements `Encoders`."""

    def model_of(self, modality: str, options: EmbedOptions) -> str:
        """Refuse."""
        raise InputError(
            f"nothing here embeds {modality} fields with {options.model or 'any model'}",
            hint="add the rows with embeddings=, or use gnomonic.AtlasDataset",
        )

    def open(self, modality: str, options: EmbedOptions) -> Encode:
        """Refuse."""
        raise InputError(f"nothing here embeds {modality} fields with {options.model}")
