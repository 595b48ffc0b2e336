"""The wheel, installed in a clean environment, holds everything and works from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.house.sources import PACKAGE, ROOT

BUNDLED_LIMIT_BYTES = 31_000_000

# Everything a plain install may not need stays importable here: the environment sees the packages of this one.
_IMPORT_ALL = """
import importlib, json, pkgutil, sys
import gnomonic
names = [m.name for m in pkgutil.walk_packages(gnomonic.__path__, "gnomonic.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps({"file": gnomonic.__file__, "version": gnomonic.__version__, "names": names}))
"""

# A bare machine: the base install alone, so anything an extra brings must not be imported on the way to a vector.
_EMBED = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "sentence_transformers", "pyarrow", "sklearn", "scipy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from gnomonic import embed
answer = embed.text(["The quick brown fox jumps over the lazy dog."])
print(json.dumps({"shape": list(answer["embeddings"].shape), "norm": float((answer["embeddings"] ** 2).sum())}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel without isolation, so that the test needs no network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment that sees our dependencies; return its interpreter."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet", wheel],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def _run(python: Path, code: str, folder: Path) -> dict[str, object]:
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "GNOMONIC_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-I", "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("gnomonic/")}
    outside = {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == outside


def test_the_wheel_holds_the_bundled_model(wheel: Path) -> None:
    from gnomonic.catalog import DEFAULT_TEXT_MODEL

    sizes = {item.filename: item.file_size for item in zipfile.ZipFile(wheel).infolist()}
    folder = f"gnomonic/assets/{DEFAULT_TEXT_MODEL}"
    assert 0 < sizes[f"{folder}/model.safetensors"] <= BUNDLED_LIMIT_BYTES
    assert f"{folder}/config.json" in sizes
    assert f"{folder}/tokenizer.json" in sizes or f"{folder}/vocab.txt" in sizes


def test_a_plain_install_asks_for_no_torch(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    required = [line for line in archive.read(name).decode().splitlines() if line.startswith("Requires-Dist:")]
    base = [line for line in required if "extra ==" not in line]
    assert base
    assert [line for line in base if any(word in line for word in ("torch", "transformers", "pyarrow"))] == []


def test_the_wheel_carries_the_licence(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
    assert archive.read(name).decode() == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_every_installed_module_imports(installed: Path, tmp_path: Path) -> None:
    result = _run(installed, _IMPORT_ALL, tmp_path)
    assert str(installed.parents[1]) in str(result["file"])
    assert isinstance(result["names"], list)
    assert len(result["names"]) > 20


def test_the_installed_package_embeds_offline_without_extras(installed: Path, tmp_path: Path) -> None:
    result = _run(installed, _EMBED, tmp_path)
    assert result["shape"] == [1, 384]
    assert result["norm"] == pytest.approx(1.0, abs=1e-5)


def test_the_installed_command_answers(installed: Path, tmp_path: Path) -> None:
    import gnomonic

    done = subprocess.run(
        [installed.parent / "gnomonic", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert gnomonic.__version__ in done.stdout
