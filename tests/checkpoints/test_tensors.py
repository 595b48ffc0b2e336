"""Reading weights: every layout and number format, and every way a file can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from gnomonic.checkpoints.safetensors_file import SafetensorsFile, write_safetensors
from gnomonic.checkpoints.tensors import expected_tensors, read_tensors
from gnomonic.errors import CheckpointError
from gnomonic.models.config import NomicBertConfig

CONFIG = NomicBertConfig(vocab_size=20, hidden_size=8, num_layers=2, num_heads=2, intermediate_size=12)
Tensors = dict[str, NDArray[Any]]


def _random(*, head: bool = False) -> Tensors:
    rng = np.random.default_rng(0)
    shapes = expected_tensors(CONFIG, head=head)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    if head:
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
    return tensors


def _native(tensors: Tensors, prefix: str = "") -> Tensors:
    """Rename an encoder's tensors as transformers has them in memory."""
    renames = {
        "emb_ln": "embeddings.LayerNorm", "encoder.layers": "layers", "attn.out_proj": "self_attn.o_proj",
        "norm1": "post_attention_layernorm", "norm2": "post_mlp_layernorm", "fc11": "up_proj",
        "fc12": "gate_proj", "fc2": "down_proj",
    }  # fmt: skip
    native = {}
    for name, values in tensors.items():
        for ours, theirs in renames.items():
            name = name.replace(ours, theirs)
        if "attn.Wqkv" in name:
            for part, third in zip("qkv", np.split(values, 3), strict=True):
                native[prefix + name.replace("attn.Wqkv", f"self_attn.{part}_proj")] = np.ascontiguousarray(third)
        else:
            native[prefix + name] = values
    return native


def _behind(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: values for name, values in tensors.items()}


def _masked_lm(tensors: Tensors) -> Tensors:
    head = {name: values for name, values in _random(head=True).items() if name.startswith("cls.")}
    return _behind("bert.")(tensors) | head


def _with_frequencies(tensors: Tensors) -> Tensors:
    frequencies = np.ones(2, dtype=np.float32)
    names = ("encoder.layers.0.attn.rotary_emb.inv_freq", "rotary_emb.inv_freq", "rotary_emb.original_inv_freq")
    return tensors | dict.fromkeys(names, frequencies)


LAYOUTS: dict[str, Callable[[Tensors], Tensors]] = {
    "original": dict,
    "native": _native,
    "native behind nomic_bert.": lambda tensors: _native(tensors, "nomic_bert."),
    "native behind model.": lambda tensors: _native(tensors, "model."),
    "masked language model": _masked_lm,
    "masked language model without its tied decoder": lambda tensors: {
        name: values for name, values in _masked_lm(tensors).items() if "decoder" not in name
    },
    "training": _behind("trunk."),
    "with rotary frequencies": _with_frequencies,
}


def _assert_same(found: Tensors, expected: Tensors) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_gives_the_canonical_tensors(tmp_path: Path, layout: Callable[[Tensors], Tensors]) -> None:
    tensors = _random()
    save_file(layout(tensors), tmp_path / "model.safetensors")
    _assert_same(read_tensors(tmp_path, CONFIG), tensors)


def test_a_masked_lm_head_is_read_when_asked_for(tmp_path: Path) -> None:
    tensors = _random(head=True)
    save_file(tensors, tmp_path / "model.safetensors")
    _assert_same(read_tensors(tmp_path, CONFIG, head=True), tensors)


def test_a_tied_decoder_that_is_left_out_is_the_word_table(tmp_path: Path) -> None:
    tensors = _random(head=True)
    decoder = tensors.pop("cls.predictions.decoder.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    found = read_tensors(tmp_path, CONFIG, head=True)
    np.testing.assert_array_equal(found["cls.predictions.decoder.weight"], decoder)


def test_an_untied_decoder_is_refused(tmp_path: Path) -> None:
    tensors = _random(head=True)
    tensors["cls.predictions.decoder.weight"] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="differs from the word table"):
        read_tensors(tmp_path, CONFIG, head=True)


def test_a_head_with_biases_is_refused_unless_they_are_zero(tmp_path: Path) -> None:
    tensors = _random(head=True)
    zeros = {"cls.predictions.bias": np.zeros(20, np.float32)}
    save_file(tensors | zeros, tmp_path / "model.safetensors")
    _assert_same(read_tensors(tmp_path, CONFIG, head=True), tensors)
    save_file(tensors | {"cls.predictions.bias": np.ones(20, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"cls\.predictions\.bias is not zero"):
        read_tensors(tmp_path, CONFIG, head=True)


def test_an_encoder_has_no_head_to_read(tmp_path: Path) -> None:
    save_file(_random(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"3 missing: cls\.predictions\.transform\.dense\.weight"):
        read_tensors(tmp_path, CONFIG, head=True)


def _shard(folder: Path, tensors: Tensors) -> None:
    names = sorted(tensors)
    weight_map = {}
    for index, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{index:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index_file = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_file), encoding="utf-8")


@pytest.mark.parametrize("layout", ["original", "native", "training"])
def test_shards_are_read_as_one_file(tmp_path: Path, layout: str) -> None:
    tensors = _random()
    _shard(tmp_path, LAYOUTS[layout](tensors))
    _assert_same(read_tensors(tmp_path, CONFIG), tensors)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    _shard(tmp_path, _random())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shards that are absent: model-00002-of-00002\.safetensors"):
        read_tensors(tmp_path, CONFIG)


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path: Path) -> None:
    _shard(tmp_path, _random())
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"]["emb_ln.bias"]
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"disagree about: emb_ln\.bias"):
        read_tensors(tmp_path, CONFIG)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "model.bin", 7, ""])
def test_an_index_cannot_point_elsewhere(tmp_path: Path, shard: object) -> None:
    index = {"weight_map": {"emb_ln.weight": shard}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="not the name of a safetensors file in the same folder"):
        read_tensors(tmp_path, CONFIG)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "\udcff"])
def test_a_damaged_index_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(CheckpointError, match="weight_map"):
        read_tensors(tmp_path, CONFIG)


def test_float32_and_float16_are_views_of_the_file(tmp_path: Path) -> None:
    for dtype in (np.float32, np.float16):
        tensors = {name: values.astype(dtype) for name, values in _random().items()}
        save_file(tensors, tmp_path / "model.safetensors")
        found = read_tensors(tmp_path, CONFIG)
        _assert_same(found, tensors)
        assert {values.dtype for values in found.values()} == {np.dtype(dtype)}
        assert not any(values.flags.owndata or values.flags.writeable for values in found.values())


@given(bits=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=64))
def test_bfloat16_is_widened_exactly(tmp_path_factory: pytest.TempPathFactory, bits: list[int]) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.getbasetemp() / "bits.safetensors"
    values = np.array(bits, dtype=np.uint16)
    write_safetensors(path, {"x": ("BF16", values)})
    expected = torch.from_numpy(values.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(SafetensorsFile(path).read("x"), expected)


def test_mixed_number_formats_and_odd_offsets_are_read(tmp_path: Path) -> None:
    tensors = _random()
    tensors["emb_ln.bias"] = tensors["emb_ln.bias"].astype(np.float16)
    # A padding tensor of one byte puts everything after it on odd addresses.
    raw = {"inv_freq": np.zeros(1, np.uint8), **tensors}
    save_file(raw, tmp_path / "ordered.safetensors")
    header, data, position = {}, b"", 0
    for name, values in raw.items():
        dtype = {"uint8": "U8", "float16": "F16", "float32": "F32"}[str(values.dtype)]
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [position, position + values.nbytes]}
        data += values.tobytes()
        position += values.nbytes
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    _assert_same(read_tensors(tmp_path, CONFIG), tensors)


def test_an_unsupported_number_format_is_named(tmp_path: Path) -> None:
    tensors = _random()
    tensors["emb_ln.weight"] = tensors["emb_ln.weight"].astype(np.float64)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"emb_ln\.weight has dtype F64; supported: F32, F16, BF16"):
        read_tensors(tmp_path, CONFIG)


def test_one_error_lists_everything_that_does_not_fit(tmp_path: Path) -> None:
    tensors = _random()
    del tensors["emb_ln.bias"], tensors["encoder.layers.1.mlp.fc2.weight"]
    tensors["encoder.layers.0.norm1.weight"] = np.ones(9, np.float32)
    extra = {"pooler.dense.weight": np.ones((8, 8), np.float32), "encoder.layers.2.norm1.bias": np.ones(8, np.float32)}
    save_file(tensors | extra, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        read_tensors(tmp_path, CONFIG)
    message = str(caught.value)
    assert "2 missing: emb_ln.bias, encoder.layers.1.mlp.fc2.weight" in message
    assert "2 unexpected: encoder.layers.2.norm1.bias, pooler.dense.weight" in message
    assert "1 mis-shaped: encoder.layers.0.norm1.weight [9] instead of [8]" in message


def test_a_missing_third_of_a_projection_is_named(tmp_path: Path) -> None:
    tensors = _native(_random())
    del tensors["layers.1.self_attn.k_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing: encoder\.layers\.1\.attn\.Wqkv\.weight \(k\)"):
        read_tensors(tmp_path, CONFIG)


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    tensors = _random()
    save_file(tensors | _native(tensors), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected: .*layers\.0\.self_attn\.q_proj\.weight"):
        read_tensors(tmp_path, CONFIG)


def test_tensors_of_another_model_beside_ours_are_unexpected(tmp_path: Path) -> None:
    extra = {"bert.emb_ln.weight": np.ones(8, np.float32), "proj.weight": np.ones(8, np.float32)}
    save_file(_random() | extra, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"2 unexpected: bert\.emb_ln\.weight, proj\.weight"):
        read_tensors(tmp_path, CONFIG)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(tmp_path: Path, dtype: type, value: float) -> None:
    tensors = {name: values.astype(dtype) for name, values in _random().items()}
    tensors["encoder.layers.1.mlp.fc2.weight"][3, 4] = value
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.1\.mlp\.fc2\.weight holds values that are not finite"):
        read_tensors(tmp_path, CONFIG)


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        read_tensors(tmp_path, CONFIG)


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(CheckpointError) as caught:
        read_tensors(tmp_path, CONFIG)
    assert "pytorch_model.bin: pickled weights are never read" in caught.value.hint


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_safetensors(folder / "model.safetensors", {name: ("F32", values) for name, values in _random().items()})
    return folder


def test_the_reference_implementation_reads_what_we_write(written: Path) -> None:
    found = load_file(written / "model.safetensors")
    _assert_same(dict(sorted(found.items())), dict(sorted(_random().items())))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_cut_off_anywhere_is_refused(written: Path, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    whole = (written / "model.safetensors").read_bytes()
    folder = tmp_path_factory.getbasetemp() / "cut"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError):
        read_tensors(folder, CONFIG)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_never_changes_a_weight(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    whole = bytearray((written / "model.safetensors").read_bytes())
    header_end = 8 + int.from_bytes(whole[:8], "little")
    # Half of the examples in the header, which is the smaller part.
    place = data.draw(st.integers(0, header_end - 1) | st.integers(header_end, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    folder = tmp_path_factory.getbasetemp() / "flipped"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(whole)
    try:
        found = read_tensors(folder, CONFIG)
    except CheckpointError:
        return
    assert place < header_end
    _assert_same(found, _random())


@pytest.mark.parametrize(
    "header",
    [
        "[]", "7", "{", "\x00", '{"a": 1}', '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 5]}}',
        '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', '{"__metadata__": {"a": 1}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', '{"a": {"dtype": "X", "shape": [], '
        '"data_offsets": [0, 4]}}', '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "b": {"dtype": '
        '"F32", "shape": [1], "data_offsets": [0, 4]}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_wrong_header_is_refused(tmp_path: Path, header: str) -> None:
    raw = header.encode()
    (tmp_path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + b"\0" * 4)
    with pytest.raises(CheckpointError, match=r"damaged|header"):
        read_tensors(tmp_path, CONFIG)


def test_a_folder_in_place_of_the_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(tmp_path, CONFIG)


def test_a_full_disk_is_a_checkpoint_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        write_safetensors(full, {"x": ("F32", np.zeros(10**6, np.float32))})


def test_the_file_may_vanish_after_reading(written: Path, tmp_path: Path) -> None:
    shutil.copy(written / "model.safetensors", tmp_path / "model.safetensors")
    found = read_tensors(tmp_path, CONFIG)
    (tmp_path / "model.safetensors").unlink()
    _assert_same(found, _random())
