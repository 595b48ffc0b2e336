"""Compiles the map's kernels when the package is built; without a compiler the package works in numpy alone.

The kernels are plain C functions in a shared library that ctypes loads: no Python headers, one wheel a platform for all
versions of Python (docs/decisions/0008-atlas.md). `python hatch_build.py` compiles them in place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, with no need of hatchling
    BuildHookInterface = object  # type: ignore[assignment,misc]

KERNELS = Path(__file__).resolve().parent / "src" / "gnomonic" / "atlas" / "kernels"
LIBRARY = KERNELS / "libkernels.so.1"
FLAGS = (
    "-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
    "-fassociative-math", "-fvisibility=hidden", "-Wall", "-Wextra",
)  # fmt: skip


def compile_kernels() -> str | None:
    """Compile the kernels; return why not where that fails, and leave no library then."""
    if sys.platform == "win32":
        return "not built on this system"
    compiler = next(
        filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")))), None
    )
    if compiler is None:
        return "no C++ compiler found"
    fresh = LIBRARY.with_name(f"{LIBRARY.name}.{os.getpid()}")
    sources = sorted(map(str, KERNELS.glob("*.cpp")))
    # Not every compiler can make one function for several kinds of CPU.
    for more in ((), ("-DGNOMONIC_ONE_CPU",)):
        done = subprocess.run([compiler, *FLAGS, *more, *sources, "-o", str(fresh)], capture_output=True, text=True)
        if done.returncode == 0:
            fresh.replace(LIBRARY)
            return None
    LIBRARY.unlink(missing_ok=True)
    return f"{compiler} failed: {done.stderr.strip()[-2000:]}"


class KernelsHook(BuildHookInterface):  # type: ignore[misc]
    """hatchling's hook for wheels, editable ones too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling calls it so
        """Compile, and tell hatchling what was made."""
        if reason := compile_kernels():
            self.app.display_warning(f"Maps will be built without compiled kernels, far slower: {reason}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append("src/gnomonic/atlas/kernels/libkernels.so.1")


if __name__ == "__main__":
    sys.exit(compile_kernels())
