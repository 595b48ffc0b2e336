"""`AtlasDataset` and `map_data`: datasets and maps by the official client's calling convention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from gnomonic.catalog import DEFAULT_TEXT_MODEL
from gnomonic.client import local
from gnomonic.client.viewing import LocalShowing
from gnomonic.errors import DatasetError, InputError, MissingExtraError
from gnomonic.settings import read_settings

try:
    from gnomonic.atlas.dataset import Dataset, random_name
    from gnomonic.atlas.embedding import EncodedChunk
    from gnomonic.atlas.progress import no_progress
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] not in ("pyarrow", "lancedb"):
        raise
    raise MissingExtraError("atlas", needed_for="a dataset") from None

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gnomonic.atlas.atlas_map import AtlasMap
    from gnomonic.atlas.embedding import Encode
    from gnomonic.atlas.home import DatasetHome
    from gnomonic.atlas.options import EmbedOptions
    from gnomonic.atlas.progress import OnProgress

__all__ = ["AtlasDataset", "LocalDataset", "LocalEncoders", "map_data"]


class LocalEncoders:
    """Opens models in this process; implements `atlas.encoders.Encoders`."""

    def model_of(self, modality: str, options: EmbedOptions) -> str:
        """Return the model's name; the bundled one for texts where none is named.

        Raises:
            InputError: images with a model, which nothing here opens yet.
        """
        if modality == "image" and options.model != local.APPEARANCE:
            raise InputError(
                f"no image model can be opened here yet, {options.model!r} neither",
                hint=f"embedding_model={local.APPEARANCE!r} goes by colours and edges; or add embeddings= of your own",
            )
        return options.model or DEFAULT_TEXT_MODEL

    def open(self, modality: str, options: EmbedOptions) -> Encode:
        """Return what embeds texts or images."""
        model = self.model_of(modality, options)

        def encode(values: list[Any], /) -> EncodedChunk:
            if modality == "image":
                return EncodedChunk(vectors=local.encode_images(values))
            encoder = local.text_encoder(model)
            made = encoder.encode(values, task_type=options.task_type, dim=options.dimensionality)
            return EncodedChunk(vectors=made.vectors, truncated=len(made.truncated))

        return encode


class LocalDataset(Dataset):
    """A dataset on this machine, whatever the environment says; see `Dataset` for what it does."""

    showing = LocalShowing()

    def __init__(
        self,
        identifier: str | None = None,
        description: str = "",
        unique_id_field: str | None = None,
        is_public: bool = False,
        dataset_id: str | None = None,
        *,
        root: str | Path | None = None,
        create: bool = True,
    ) -> None:
        """Open a dataset, or make it; the arguments are those of `Dataset`."""
        super().__init__(
            identifier,
            description,
            unique_id_field,
            is_public,
            dataset_id,
            root=root,
            encoders=LocalEncoders(),
            create=create,
        )


class AtlasDataset(LocalDataset):
    """A dataset; see `Dataset` for what it does.

    On this machine, unless GNOMONIC_API_URL names a Gnomonic server and no `root` is given: it is there then, and the
    object is a `RemoteDataset`, which does the same.
    """

    def __new__(cls, *arguments: Any, root: str | Path | None = None, **options: Any) -> Self:  # noqa: ARG004
        """Choose between this machine and the server."""
        if cls is AtlasDataset and root is None and read_settings().api_url is not None:
            from gnomonic.client.remote_datasets import RemoteDataset

            return cast(Self, object.__new__(RemoteDataset))
        return super().__new__(cls)

    @classmethod
    def all(cls, root: str | Path | None = None) -> list[DatasetHome]:
        """Return the datasets there are; those of a server have no folder."""
        if root is None and read_settings().api_url is not None:
            from gnomonic.client.remote_datasets import remote_homes

            return remote_homes()
        return super().all(root)


def map_data(
    data: Any = None,
    blobs: Sequence[Any] | None = None,
    embeddings: NDArray[Any] | None = None,
    identifier: str | None = None,
    description: str = "",
    id_field: str | None = None,
    *,
    is_public: bool = False,
    indexed_field: str | None = None,
    root: str | Path | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> AtlasMap:
    """Make a dataset of some rows and a map of it, in one call.

    Args:
        data: a DataFrame, an Arrow table, a list of dicts or a dict of columns; may be None with embeddings.
        blobs: an image a row.
        embeddings: [n, dim] vectors of the rows.
        identifier: name of the new dataset; default a random one.
        description: of the dataset.
        id_field: the column of ids; None to have ids made.
        is_public: kept for the official client's sake.
        indexed_field: the text column to embed, where there are no embeddings.
        root: the data folder.
        on_progress: told of every stage.
        options: `projection`, `topic_model`, `duplicate_detection`, `embedding_model`, `neighbors` and `seed`, as
            `Dataset.create_index` takes them.

    Returns:
        the map; its dataset is `.dataset`.

    Raises:
        InputError: nothing to map, or an argument does not fit.
        DatasetError: the dataset exists and has rows.
    """
    if data is None and embeddings is None:
        raise InputError("nothing to map", hint="give data=, embeddings= or both")
    if embeddings is not None and not np.asarray(embeddings).size:
        raise InputError("the embeddings are empty")
    dataset = AtlasDataset(identifier or random_name(), description, id_field, is_public, root=root)
    if dataset.total_datums:
        raise DatasetError(
            f"dataset {dataset.identifier} has rows already",
            hint="add to it with AtlasDataset(name).add_data(…), or choose another name",
        )
    try:
        dataset.add_data(data, embeddings, blobs)
    except BaseException:
        # As with the official client, a new dataset whose rows could not be added is not left behind.
        dataset.delete()
        raise
    modality = "embedding" if embeddings is not None and indexed_field is None else None
    return dataset.create_index(
        indexed_field=indexed_field, modality=modality, on_progress=on_progress or no_progress, **options
    )
