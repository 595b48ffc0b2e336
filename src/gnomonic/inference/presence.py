"""Whether a model is on this machine, told without opening or fetching it."""

from __future__ import annotations

from dataclasses import dataclass

from gnomonic.errors import GnomonicError
from gnomonic.settings import Settings

__all__ = ["Presence", "presence_of"]

_UNKNOWN_PARAMETERS = 100_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Presence:
    """What running a model here would take."""

    here: bool
    """Its files are on this machine; otherwise they can be fetched."""
    parameters: int
    """Number of weights; a guess where neither catalog nor files tell."""


def presence_of(model: str, settings: Settings) -> Presence | None:
    """Look for the files of a model by its name; None when it cannot be run here: unknown, or not here and offline."""
    from gnomonic.checkpoints.hub import locate

    try:
        spec, folder = locate(model, settings)
    except GnomonicError:
        return None
    here = (folder / "config.json").is_file()
    if spec.kind != "text" or not (here or (spec.repo and not settings.offline)):
        return None
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors")) // 4 if here else 0
    return Presence(here=here, parameters=spec.parameters or stored or _UNKNOWN_PARAMETERS)
