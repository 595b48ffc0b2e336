"""The ONNX graphs one makes without Gnomonic: exported by torch, then quantised by ONNX Runtime.

Plain operators throughout; the attention scores of a batch are a [batch, heads, seq, seq] array.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

__all__ = ["export_plain", "quantize_plain"]


def export_plain(folder: Path, out: Path) -> Path:
    """Export a checkpoint, mean pooling included, as fp32; done once per path.

    Inputs `input_ids` and `attention_mask` [batch, seq] int64, output `pooled` [batch, hidden] float32.
    """
    if out.exists():
        return out
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        def __init__(self, bert: torch.nn.Module) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return (hidden * mask).sum(1) / mask.sum(1)

    model: Any = AutoModel.from_pretrained(str(folder), attn_implementation="eager")
    ids = torch.randint(104, 200, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    axes = {0: "batch", 1: "seq"}
    scratch = out.with_suffix(f".{os.getpid()}.tmp")
    with warnings.catch_warnings(), torch.inference_mode():
        # The TorchScript exporter warns that it is the old one; published models came from it.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Pooled(model.eval()),
            (ids, mask),
            str(scratch),
            dynamo=False,
            opset_version=17,
            input_names=["input_ids", "attention_mask"],
            output_names=["pooled"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "pooled": {0: "batch"}},
        )
    scratch.replace(out)
    return out


def quantize_plain(plain: Path, out: Path) -> Path:
    """Quantise an exported graph with ONNX Runtime's dynamic int8 recipe, untuned; done once per path."""
    if out.exists():
        return out
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    # It recommends a pre-processing step that is for static quantisation, on every call.
    logging.getLogger().setLevel(logging.ERROR)
    scratch = out.with_suffix(f".{os.getpid()}.tmp")
    quantize_dynamic(str(plain), str(scratch), weight_type=QuantType.QInt8)
    scratch.replace(out)
    return out
