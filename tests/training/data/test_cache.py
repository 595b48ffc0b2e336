"""What is made once appears whole, one process at a time, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from gnomonic.errors import InputError
from gnomonic.training.data.cache import appearing, cache_folder, fingerprint

_SLOW = """
import sys, time
from pathlib import Path
from gnomonic.training.data.cache import appearing
print("asks", flush=True)
with appearing(Path(sys.argv[1])) as fresh:
    print("made" if fresh else "found", flush=True)
    if fresh:
        (fresh / "a").write_text("whole")
        sys.stdin.readline()
"""


def _process(target: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _SLOW, str(target)]
    # Unbuffered: what was not asked for stays in the pipe, where `select` sees it.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def _parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix == ".part"]


def test_a_block_that_ends_well_makes_the_target(tmp_path: Path) -> None:
    with appearing(tmp_path / "new" / "target") as fresh:
        assert fresh is not None
        (fresh / "a").write_text("whole")
        assert not (tmp_path / "new" / "target").exists()
    assert (tmp_path / "new" / "target" / "a").read_text() == "whole"
    with appearing(tmp_path / "new" / "target") as fresh:
        assert fresh is None


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), appearing(tmp_path / "target") as fresh:
        Path(fresh or tmp_path, "a").write_text(str(1 / 0))
    assert not (tmp_path / "target").exists()
    assert _parts(tmp_path) == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No space left"), appearing(tmp_path / "target"):
        raise OSError(28, "No space left on device")


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no file locks that end with the process")
def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    with _process(tmp_path / "target") as first, _process(tmp_path / "target") as second:
        both = [first, second]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == b"asks\n"
        spoke, _, _ = select.select([process.stdout for process in both], [], [], 60)
        assert len(spoke) == 1
        # The other would speak at once if it did not wait.
        maker, waiter = both if spoke[0] is first.stdout else reversed(both)
        assert select.select([waiter.stdout], [], [], 0.5)[0] == []
        assert maker.communicate(b"go on\n", timeout=60)[0] == b"made\n"
        assert waiter.communicate(timeout=60)[0] == b"found\n"
    assert (tmp_path / "target" / "a").read_text() == "whole"


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no file locks that end with the process")
def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    with _process(tmp_path / "target") as first:
        assert first.stdout is not None
        assert [first.stdout.readline() for _ in range(2)] == [b"asks\n", b"made\n"]
        first.kill()
    assert len(_parts(tmp_path)) == 1
    with appearing(tmp_path / "target") as fresh:
        assert fresh is not None
    assert _parts(tmp_path) == []


def test_the_folder_is_the_callers_or_in_gnomonic_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMONIC_CACHE", str(tmp_path))
    assert cache_folder(None) == tmp_path / "data"
    assert cache_folder(tmp_path / "own") == tmp_path / "own"


def test_the_fingerprint_sees_the_middle_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    data = bytearray(400_000)
    prints = set()
    for place in (0, 200_000, 399_999):
        data[place] = 1
        path.write_bytes(data)
        os.utime(path, ns=(0, 0))
        prints.add(fingerprint(path))
    assert len(prints) == 3
