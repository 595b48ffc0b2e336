"""The process that computes: engines, and nothing else. `python -m gnomonic.server.worker FD`, started by `workers.py`.

It has no HTTP, no queue and no texts, only token ids, so that whatever kills it, an allocation too large or a signal,
leaves every connection with the server intact.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomonic.errors import EngineError, GnomonicError
from gnomonic.server.framing import pack, read_message, take_apart

if TYPE_CHECKING:
    from gnomonic.inference.engines.base import Engine

__all__ = ["answer", "main"]

_Told = tuple[dict[str, Any], bytes]


def answer(engines: dict[str, Engine], header: dict[str, Any], payload: bytes) -> bytes:
    """Carry out one message and return the reply.

    Args:
        engines: the open ones by key; "open" adds to it and "close" takes away.
        header: `id`, which the reply repeats; `op`, one of "open", "run" and "close"; `key`, the engine's; and what the
            operation needs.
        payload: for "run", what `framing.lay_out` made.
    """
    try:
        told, result = _OPERATIONS[header["op"]](engines, header, payload)
    except GnomonicError as error:
        told, result = {"error": str(error), "hint": error.hint}, b""
    except Exception as error:  # noqa: BLE001 - the server decides what becomes of it; this process goes on
        told, result = {"error": f"{type(error).__name__}: {error}", "hint": ""}, b""
    return pack({"id": header["id"], **told}, result)


def _open(engines: dict[str, Engine], header: dict[str, Any], _: bytes) -> _Told:
    from gnomonic.checkpoints.huggingface import read_config
    from gnomonic.inference.engines.select import open_engine

    key, folder = header["key"], Path(header["folder"])
    if key not in engines:
        engines[key] = open_engine(
            folder,
            read_config(folder),
            device=header["device"],
            precision=header["precision"],
            threads=header["threads"],
            cache_dir=Path(header["cache_dir"]),
        )
    engine = engines[key]
    budget = {name: getattr(engine.budget, name) for name in ("max_tokens", "max_cells", "call_tokens")}
    return {"precision": engine.precision, "hidden_size": engine.hidden_size, "budget": budget}, b""


def _run(engines: dict[str, Engine], header: dict[str, Any], payload: bytes) -> _Told:
    from gnomonic.inference.batching import pad

    engine = engines.get(header["key"])
    if engine is None:
        raise EngineError(f"the worker has no engine {header['key']!r}")
    began = time.perf_counter()
    pooled = engine.run(pad(take_apart(payload, header["rows"])))
    return {"engine_s": time.perf_counter() - began}, pooled.astype("<f4").tobytes()


def _close(engines: dict[str, Engine], header: dict[str, Any], _: bytes) -> _Told:
    engine = engines.pop(header["key"], None)
    if engine is not None:
        engine.close()
    return {}, b""


_OPERATIONS = {"open": _open, "run": _run, "close": _close}


# Numbers of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 1 << 20


def _return_large_blocks() -> None:
    """Have the C library give every large block back to the system when it is freed, where that is glibc.

    Left alone it raises its bound for "large" to the largest block it has seen, up to 32 MB. From then on the regions
    that the runtime takes and gives back for long texts break up the heap, and the process creeps upwards for hours
    (benchmarks/LOG.md). The runtime keeps its regions between ordinary batches, so they pay nothing for this.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, 2)


def main() -> None:
    """Answer messages on the given socket until the server closes it."""
    _return_large_blocks()
    # Ctrl-C reaches the whole group of processes; the server ends this one when its requests are answered.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    engines: dict[str, Engine] = {}
    with socket.socket(fileno=int(sys.argv[1])) as connection, connection.makefile("rb") as stream:
        while (message := read_message(stream)) is not None:
            try:
                connection.sendall(answer(engines, *message))
            except ConnectionError:  # the server is gone, and nobody waits for this
                return


if __name__ == "__main__":
    main()
