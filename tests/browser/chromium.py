"""Debian's Chromium with WebGL2 in software, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["FLAGS", "browser", "chromium_path"]

FLAGS = (
    "--no-sandbox", "--enable-unsafe-swiftshader", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-dev-shm-usage",
)  # fmt: skip


def chromium_path() -> str | None:
    """Return where the system's Chromium is; None where there is none."""
    usual = Path("/usr/bin/chromium")
    return shutil.which("chromium") or shutil.which("chromium-browser") or (str(usual) if usual.exists() else None)


@contextmanager
def browser(*more: str) -> Iterator[Browser]:
    """Start a browser without a window.

    Raises:
        FileNotFoundError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    path = chromium_path()
    if path is None:
        raise FileNotFoundError("chromium is not installed; `make test-browser` installs it")
    # Keys with which Debian's launcher would talk to services of others.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOOGLE_")}
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=path, headless=True, args=[*FLAGS, *more], env={**environment, "NO_PROXY": "*"}
        )
        try:
            yield started
        finally:
            started.close()
