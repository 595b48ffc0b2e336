"""What the Atlas routes work with: datasets, the queue of jobs, and the models that embed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomonic.atlas.dataset import Dataset
from gnomonic.atlas.map_folder import current_map
from gnomonic.atlas.planning import plan_map
from gnomonic.errors import InputError
from gnomonic.server.atlas.datasets import Datasets
from gnomonic.server.atlas.encoders import EncodeWith, OfferedModels, ServedEncoders
from gnomonic.server.atlas.jobs import JobQueue, JobRecord, jobs_of, now

__all__ = ["Desk", "DeskOptions", "plan_model"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeskOptions:
    """How the Atlas half of a server is set up."""

    root: Path
    """The data folder."""
    sources: Mapping[str, str]
    """Names of the offered models → catalog names or folders, the default first."""
    forced: str | None = None
    """The model that embeds fields whatever is asked for."""
    images: str | None = None
    """What embeds images whatever is asked for."""
    why_absent: Callable[[str], str | None] = lambda _: None
    """Tells why the model of a name cannot be opened on this machine; None where it can."""
    max_upload_bytes: int = 256 << 20


class Desk:
    """Everything that an Atlas route needs; its methods block and are called in threads."""

    def __init__(self, options: DeskOptions, queue: JobQueue, encode: EncodeWith) -> None:
        """Put it together.

        Args:
            options: data folder, models, limits.
            queue: where jobs wait.
            encode: embeds search texts.
        """
        self.options = options
        self.queue = queue
        self.models = OfferedModels(sources=options.sources, forced=options.forced, images=options.images)
        self.encoders = ServedEncoders(self.models, encode)
        self.datasets = Datasets(options.root, self.encoders)

    def is_busy(self, dataset: Dataset) -> bool:
        """Tell whether a job of the dataset waits or runs."""
        return any(job.is_open for job in jobs_of(dataset.home.folder))

    def build(self, dataset: Dataset, arguments: Mapping[str, Any]) -> JobRecord:
        """Check what is asked for and have the map built.

        Args:
            dataset: of which dataset.
            arguments: of `Dataset.create_index`, as JSON can hold them.

        Raises:
            InputError: an argument does not fit the rows, or the model is not here.
        """
        given = dict(arguments)
        name = given.get("name") or dataset.name
        plan = plan_map(
            dataset.store,
            self.encoders,
            name=name,
            indexed_field=given.get("indexed_field"),
            modality=given.get("modality"),
            options={option: given.get(option) for option in _OPTIONS if given.get(option) is not None},
            seed=given.get("seed") or 0,
        )
        model = plan.source.model
        if model is not None and (reason := self.options.why_absent(model)):
            raise InputError(f"model {model!r} cannot be opened here: {reason}")
        asked = plan_model(given.get("embedding_model"))
        job = JobRecord(
            id=str(uuid.uuid4()),
            kind="create",
            dataset_id=dataset.id,
            created=now(),
            map_id=str(uuid.uuid4()),
            index_id=str(uuid.uuid4()),
            map_name=name,
            indexed_field=plan.source.field,
            arguments=given,
            warning=self.models.warning(asked) if model is not None else None,
        )
        return self.queue.add(dataset.home.folder, job)

    def rows_changed(self, dataset: Dataset, *, rebuild: bool = False) -> JobRecord | None:
        """Have the current map, where there is one, follow its rows soon; with `rebuild` from the start."""
        if current_map(dataset.home.maps) is None:
            return None
        if not rebuild:
            return self.queue.update_soon(dataset.home.folder, dataset.id)
        job = JobRecord(
            id=str(uuid.uuid4()),
            kind="update",
            dataset_id=dataset.id,
            created=now(),
            arguments={"rebuild_topic_models": True},
        )
        return self.queue.add(dataset.home.folder, job)


def plan_model(given: Any) -> str | None:
    """Return the model that the argument `embedding_model` names."""
    if isinstance(given, Mapping):
        given = given.get("model")
    return given if isinstance(given, str) else None


_OPTIONS = ("projection", "topic_model", "duplicate_detection", "embedding_model", "neighbors")
