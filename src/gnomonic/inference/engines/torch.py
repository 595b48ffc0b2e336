"""The torch engine: packed sequences without padding, on CUDA, MPS, or a CPU with bf16 units."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gnomonic.errors import EngineError, InputError, MissingExtraError
from gnomonic.inference.engines.base import BatchBudget, Feeds

if TYPE_CHECKING:
    import torch

    from gnomonic.models.config import NomicBertConfig
    from gnomonic.models.nomic_bert import NomicBert

__all__ = ["TorchEngine"]

logger = logging.getLogger(__name__)

_PRECISIONS = ("fp32", "bf16", "fp16")
# On an accelerator small batches leave most of it idle. 65,536 tokens of the 137M model take about 3 GB in
# bf16, and attention there is blocked, so its cells take no memory.
_ACCELERATOR_BUDGET = BatchBudget(max_tokens=65_536, max_cells=65_536 * 8192)
_NEEDED_FOR = "the torch engine"


class TorchEngine:
    """Runs a `NomicBert`; implements `Engine`.

    A padded batch is unpacked first, so padding costs nothing. bf16 and fp16 hold matrices and products in
    that type. The few parameters of the norms stay float32: rounding them shifts all vectors the same way,
    which costs more agreement than everything else together. Softmax and the mean over tokens accumulate in
    float32.
    """

    name = "torch"

    def __init__(self, model: NomicBert, *, device: str = "cpu", precision: str = "fp32") -> None:
        """Move the model to the device and convert its weights, in place.

        Args:
            model: the encoder; the engine owns it from now on.
            device: "cpu", "cuda", "cuda:1", "mps".
            precision: "fp32", "bf16", "fp16", or "auto": bf16 on CUDA, else fp32.

        Raises:
            InputError: the precision is not one of these.
            EngineError: the device does not exist or has no room for the weights.
            MissingExtraError: torch is not installed.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("train", needed_for=_NEEDED_FOR) from error
        if precision == "auto":
            precision = "bf16" if device.startswith("cuda") else "fp32"
        if precision not in _PRECISIONS:
            raise InputError(f"precision {precision!r} is unknown to the torch engine; choose {', '.join(_PRECISIONS)}")
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        try:
            self._device = torch.device(device)
            self._model: NomicBert | None = model.to(self._device).eval()
            _narrow(model, dtype, widen_inputs=self._device.type != "cpu")
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            # torch built without CUDA answers with an AssertionError.
            raise EngineError(
                f"device {device!r} cannot be used: {_first_line(error)}", hint="use device='cpu'"
            ) from error
        self.precision = precision
        self.hidden_size = model.config.hidden_size
        self.budget = BatchBudget() if self._device.type == "cpu" else _ACCELERATOR_BUDGET

    @classmethod
    def open(
        cls,
        folder: Path,
        config: NomicBertConfig,
        *,
        device: str = "cpu",
        precision: str = "auto",
        threads: int | None = None,
    ) -> TorchEngine:
        """Load a checkpoint folder.

        Args:
            folder: a checkpoint in any layout that `read_tensors` reads.
            config: the folder's configuration, as `read_config` gives it.
            device: as in the constructor.
            precision: as in the constructor.
            threads: CPU threads of torch in this process, which has one setting for all models; None leaves
                it.

        Raises:
            InputError: the precision is not available.
            EngineError: the device cannot be used.
            CheckpointError: the weights are absent, damaged or do not fit the configuration.
            MissingExtraError: torch is not installed.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("train", needed_for=_NEEDED_FOR) from error
        from gnomonic.checkpoints import huggingface

        if threads is not None and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        model = huggingface.load_text(folder, config=config)
        engine = cls(model, device=device, precision=precision)
        logger.info("torch engine on %s in %s, %d threads", device, engine.precision, torch.get_num_threads())
        return engine

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Encode and mean-pool one padded batch; see `Engine.run`.

        Raises:
            EngineError: a token id is outside the vocabulary, a row is empty, the device is out of memory, or
                torch failed. The engine stays usable.
        """
        import torch

        from gnomonic.models.pooling import mean_pool

        if self._model is None:
            raise EngineError("the engine is closed")
        lengths, packed = _pack(feeds, self._model.config.vocab_size)
        if not lengths:
            return np.empty((0, self.hidden_size), dtype=np.float32)
        try:
            with torch.inference_mode():
                input_ids = torch.from_numpy(packed).to(self._device)
                pooled = mean_pool(self._model(input_ids, lengths), lengths)
                vectors: NDArray[np.float32] = pooled.float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            reason = _first_line(error)
        except RuntimeError as error:
            raise EngineError(f"torch failed on a batch of {len(lengths)} texts: {_first_line(error)}") from error
        else:
            return vectors
        # Outside the handler: inside it the traceback still holds the tensors that should be freed.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        raise EngineError(
            f"{self._device} is out of memory on {len(lengths)} texts with {len(packed)} tokens: {reason}",
            hint="embed with smaller batches, a lower precision, or on the CPU",
        )

    def close(self) -> None:
        """Free the weights; closing twice is allowed."""
        import torch

        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _narrow(model: NomicBert, dtype: torch.dtype, *, widen_inputs: bool) -> None:
    """Convert everything but the norms, in place.

    Args:
        model: changed.
        dtype: of the matrices and of what flows between the layers.
        widen_inputs: give the norms float32 inputs, because the device's kernel does not take narrow inputs
            with wide parameters. The CPU's does, to the same result.
    """
    from torch import float32, nn

    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.to(dtype)
        elif isinstance(module, nn.LayerNorm):
            module.to(float32)
            if widen_inputs and dtype != float32:
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
                module.register_forward_hook(lambda _, __, output: output.to(dtype))


def _pack(feeds: Feeds, vocab_size: int) -> tuple[list[int], NDArray[np.int64]]:
    """Lay the rows end to end without padding.

    Returns:
        lengths, one per row; token ids [total] int64.

    Raises:
        EngineError: a row is empty, or an id is outside the vocabulary: on a GPU that would end the process's
            use of it.
    """
    mask = np.asarray(feeds["attention_mask"]).astype(bool)
    packed: NDArray[np.int64] = np.ascontiguousarray(np.asarray(feeds["input_ids"])[mask], dtype=np.int64)
    lengths = mask.sum(axis=1)
    if not lengths.all():
        raise EngineError(f"row {int(np.argmin(lengths))} of the batch has no tokens")
    if packed.size and not 0 <= int(packed.min()) <= int(packed.max()) < vocab_size:
        raise EngineError(f"token ids go from {packed.min()} to {packed.max()}; the model knows 0 to {vocab_size - 1}")
    return lengths.tolist(), packed


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
