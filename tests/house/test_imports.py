"""Who may import what; ARCHITECTURE.md draws the same table."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.house.sources import PACKAGE, ROOT, Import, imports_of, modules


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """The imports one unit of the package is allowed, besides the standard library and numpy."""

    ours: frozenset[str] = frozenset()
    """Units imported anywhere; its own unit is always allowed."""
    ours_deferred: frozenset[str] = frozenset()
    """Units imported inside functions only."""
    theirs: frozenset[str] = frozenset()
    """Third-party packages imported anywhere."""
    theirs_deferred: frozenset[str] = frozenset()
    """Third-party packages imported inside functions only."""
    files: dict[str, frozenset[str]] = field(default_factory=dict)
    """File → what it alone may import beyond the unit's own allowance, ours or theirs, anywhere."""


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


# errors and settings are leaves: whoever may import one may import the other.
LEAVES = _set("errors settings")
EVERY_UNIT = _set(
    "errors types settings catalog models checkpoints inference atlas viewer client server evaluation training cli"
)

UNITS: dict[str, Unit] = {
    "errors": Unit(),
    "settings": Unit(ours=_set("errors")),
    "types": Unit(ours=LEAVES),
    "catalog": Unit(ours=LEAVES | {"types"}),
    "models": Unit(ours=LEAVES, theirs=_set("torch")),
    "checkpoints": Unit(
        ours=LEAVES | _set("types catalog models"),
        theirs=_set("safetensors huggingface_hub"),
        theirs_deferred=_set("torch onnx gguf"),
        # Downloads are hashed while they arrive, and resumed, which the hub's own client does not offer.
        files={"hub_client.py": _set("httpx")},
    ),
    "inference": Unit(
        # config.py is the one file of models without torch; the graph is built from it.
        ours=LEAVES | _set("types catalog checkpoints models.config"),
        theirs=_set("tokenizers PIL"),
        files={
            "engines/torch.py": _set("models torch"),
            "engines/onnx.py": _set("onnxruntime"),
        },
    ),
    "viewer": Unit(ours=_set("errors")),
    "atlas": Unit(
        ours=LEAVES | _set("types viewer"), theirs=_set("pyarrow lancedb"),
        # Tables are handed over as DataFrames; small pictures are drawn.
        theirs_deferred=_set("pandas PIL"),
    ),
    "client": Unit(
        ours=LEAVES | _set("types catalog viewer"), theirs=_set("httpx"),
        files={
            "channels.py": _set("atlas server pyarrow starlette"),
            "viewing.py": _set("atlas server"),
            "widget.py": _set("atlas anywidget traitlets pyarrow"),
            "local.py": _set("inference"),
            "datasets.py": _set("atlas"),
            "remote_api.py": _set("pyarrow"),
            "remote_datasets.py": _set("atlas"),
            "remote_maps.py": _set("atlas pyarrow"),
            "remote_parts.py": _set("atlas pyarrow"),
            "remote_store.py": _set("atlas pyarrow"),
        },
    ),
    "server": Unit(
        ours=LEAVES | _set("types catalog inference atlas viewer"),
        theirs=_set("fastapi uvicorn starlette orjson prometheus_client pyarrow"),
        theirs_deferred=_set("opentelemetry"),
        # The worker opens an engine from a folder alone.
        files={"worker.py": _set("checkpoints")},
    ),
    "evaluation": Unit(
        ours=LEAVES | {"types"}, theirs=_set("sklearn scipy"),
        theirs_deferred=_set("mteb pyarrow sentence_transformers threadpoolctl torch"),
    ),
    "training": Unit(
        ours=LEAVES
        | _set("types catalog models checkpoints evaluation")
        | _set("inference.tokenizer inference.image inference.batching"),
        theirs=_set("torch"),
        theirs_deferred=_set("pyarrow safetensors"),
        files={
            "data/pairs.py": _set("pyarrow"),
            "vocabulary.py": _set("tokenizers"),
            "data/readers.py": _set("pyarrow"),
            "data/tables.py": _set("pyarrow"),
            "teacher.py": _set("sentence_transformers"),
        },
    ),
    "cli": Unit(
        # Options are declared at module level: their defaults are the catalog's, their choices those of types.
        ours=LEAVES | _set("types catalog"), ours_deferred=EVERY_UNIT, theirs=_set("typer rich"),
        theirs_deferred=_set("pyarrow torch onnx onnxruntime tokenizers"),
    ),
}  # fmt: skip

# What stays out of each unit's reach whatever its files say: the two halves never meet, nothing knows the doors.
NEVER = [
    ("atlas", "inference"),
    ("inference", "atlas"),
    ("models", "checkpoints"),
    ("evaluation", "inference"),
]


def _unit(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def _reaches(name: str, allowed: frozenset[str]) -> bool:
    """Whether a dotted name is one of the allowed ones, or lies inside one."""
    return any(name == entry or name.startswith(f"{entry}.") for entry in allowed)


def _is_allowed(item: Import, unit: str, rule: Unit, inside: str) -> bool:
    top, _, rest = item.name.partition(".")
    extra = rule.files.get(inside, frozenset())
    if top == "gnomonic":
        if rest == "__version__" or (unit == "cli" and not rest):
            return True
        allowed = rule.ours | {unit} | extra
        return _reaches(rest, allowed | rule.ours_deferred if item.deferred else allowed)
    if top in sys.stdlib_module_names or top == "numpy":
        return True
    return top in (rule.theirs | extra | (rule.theirs_deferred if item.deferred else frozenset()))


def _violations(path: Path) -> list[str]:
    unit = _unit(path)
    rule = UNITS[unit]
    inside = path.relative_to(PACKAGE).as_posix().removeprefix(f"{unit}/")
    place = path.relative_to(ROOT)
    return [
        f"{place}:{item.line} imports {item.name}" + ("" if item.deferred else " at module level")
        for item in imports_of(path)
        if not _is_allowed(item, unit, rule, inside)
    ]


def _module_paths() -> list[Path]:
    return [path for path in modules() if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", _module_paths(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_unit_may(path: Path) -> None:
    assert _violations(path) == []


def test_the_root_imports_nothing_of_ours_before_it_is_asked() -> None:
    eager = [item.name for item in imports_of(PACKAGE / "__init__.py") if not item.deferred]
    assert [name for name in eager if name.partition(".")[0] not in sys.stdlib_module_names] == []


def test_the_table_forbids_what_must_never_meet() -> None:
    for unit, other in NEVER:
        rule = UNITS[unit]
        assert other not in rule.ours | rule.ours_deferred


def test_only_its_own_engine_file_imports_a_runtime() -> None:
    homes = {"onnxruntime": {"engines/onnx.py"}, "torch": {"engines/torch.py"}}
    for path in (PACKAGE / "inference").rglob("*.py"):
        inside = path.relative_to(PACKAGE / "inference").as_posix()
        for item in imports_of(path):
            allowed = homes.get(item.name.partition(".")[0])
            assert allowed is None or inside in allowed, f"{inside}:{item.line} imports {item.name}"


def test_architecture_names_every_unit() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    drawn = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    present = {_unit(path) for path in _module_paths()}
    assert present <= set(UNITS), "a new unit needs a row in the table above"
    assert present <= drawn, "a unit is missing from ARCHITECTURE.md's import table"


@pytest.mark.parametrize(
    ("name", "deferred", "unit", "inside", "allowed"),
    [
        ("gnomonic.errors", False, "models", "layers.py", True),
        ("gnomonic.inference.encoder", False, "models", "layers.py", False),
        ("torch", False, "checkpoints", "huggingface.py", False),
        ("torch.nn", True, "checkpoints", "huggingface.py", True),
        ("onnxruntime", True, "inference", "encoder.py", False),
        ("onnxruntime", False, "inference", "engines/onnx.py", True),
        ("gnomonic.inference.encoder", False, "training", "loop.py", False),
        ("gnomonic.inference.tokenizer.Tokenizer", False, "training", "loop.py", True),
        ("gnomonic.inference", False, "cli", "embed.py", False),
        ("gnomonic.inference.load", True, "cli", "embed.py", True),
        ("requests", True, "cli", "embed.py", False),
    ],
)
def test_the_check_itself(name: str, deferred: bool, unit: str, inside: str, allowed: bool) -> None:
    item = Import(name=name, line=1, deferred=deferred)
    assert _is_allowed(item, unit, UNITS[unit], inside) is allowed
