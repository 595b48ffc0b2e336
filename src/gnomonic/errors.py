"""Every exception Gnomonic raises, in one tree; the number is the HTTP status a server answers with.

```
GnomonicError                      .hint: what to do next, shown by the CLI
├── InputError(ValueError)            400   bad task type, text that is not text, dimensionality out of range, …
│   ├── UnknownModelError             404
│   └── TooLargeError                 413   a request beyond a limit of the server
├── ConfigError(ValueError)           -     names the dotted key and the file
├── MissingExtraError(ImportError)    -     says: pip install 'gnomonic[train]'
├── CheckpointError                   -     absent file, wrong digest, missing or unexpected tensors (both lists)
├── EngineError                       500   the backend failed
├── OverloadedError                   429   .retry_after_s
├── UnavailableError                  503   the worker died or the server is ending; .retry_after_s
├── DeadlineError                     504   not done in the time the caller or the server allows
├── DatasetError                      400
│   ├── DatasetNotFoundError          404
│   └── SchemaError                   422
└── RemoteError                       502   .status .request_id
    ├── AuthenticationError           401
    ├── RateLimitError                429
    ├── RemoteTimeoutError            504
    └── PartialFailureError           502   .done .failed: some texts have vectors, others not
```

A message says what is wrong, the value, the rule and the way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "AuthenticationError",
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "DatasetNotFoundError",
    "DeadlineError",
    "EngineError",
    "GnomonicError",
    "InputError",
    "MissingExtraError",
    "OverloadedError",
    "PartialFailureError",
    "RateLimitError",
    "RemoteError",
    "RemoteTimeoutError",
    "SchemaError",
    "TooLargeError",
    "UnavailableError",
    "UnknownModelError",
]


class GnomonicError(Exception):
    """The root of all errors raised on purpose.

    Attributes:
        hint: what to do next, one line; empty when the message already says it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputError(GnomonicError, ValueError):
    """The caller passed a value that cannot be embedded, stored or parsed."""


class UnknownModelError(InputError):
    """The model is neither in the catalog nor a folder."""


class TooLargeError(InputError):
    """A request is larger than the server takes."""


class ConfigError(GnomonicError, ValueError):
    """A setting or configuration file holds a value that is not implemented or not allowed."""


class MissingExtraError(GnomonicError, ImportError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, extra: str, *, needed_for: str) -> None:
        command = f"pip install 'gnomonic[{extra}]'"
        super().__init__(f"{needed_for} needs the extra [{extra}], which is not installed; run: {command}")
        self.extra = extra


class CheckpointError(GnomonicError):
    """A model's files are absent, damaged or do not fit its configuration."""


class EngineError(GnomonicError):
    """The inference backend failed on a batch or could not start."""


class OverloadedError(GnomonicError):
    """The queue is full.

    Attributes:
        retry_after_s: seconds after which the request may be tried again.
    """

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class UnavailableError(GnomonicError):
    """The server cannot answer now, for a reason of its own.

    Attributes:
        retry_after_s: seconds after which the request may be tried again.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class DeadlineError(GnomonicError):
    """The answer was not ready within the time allowed; its work was dropped."""


class DatasetError(GnomonicError):
    """A dataset operation cannot be carried out."""


class DatasetNotFoundError(DatasetError):
    """No dataset has this identifier."""


class SchemaError(DatasetError):
    """Rows do not fit the dataset's schema."""


class RemoteError(GnomonicError):
    """A remote embedding service answered with an error, or with something unreadable.

    Attributes:
        status: HTTP status, None when no answer came.
        request_id: the service's identifier of the request, when it gave one.
    """

    def __init__(
        self, message: str, *, status: int | None = None, request_id: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.request_id = request_id


class AuthenticationError(RemoteError):
    """The service refused the API key."""


class RateLimitError(RemoteError):
    """The service asks for fewer requests."""


class RemoteTimeoutError(RemoteError):
    """The service did not answer in time."""


class PartialFailureError(RemoteError):
    """A remote call embedded some of its texts and failed on the others; its cause is the first failure.

    Attributes:
        done: the vectors there are, by the indices of their texts: range -> [len(range), dim] float32.
        failed: the indices of the texts without a vector, ascending.
    """

    def __init__(
        self,
        message: str,
        *,
        done: Mapping[range, NDArray[np.float32]],
        failed: tuple[range, ...],
        status: int | None = None,
        request_id: str | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, status=status, request_id=request_id, hint=hint)
        self.done = done
        self.failed = failed
