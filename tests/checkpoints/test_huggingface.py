"""Model folders: described, loaded, saved, and read back by the libraries others use."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from gnomonic.catalog import ModelSpec
from gnomonic.checkpoints import huggingface
from gnomonic.checkpoints.huggingface import describe, load_masked_lm, load_text, read_config, save
from gnomonic.checkpoints.tensors import read_tensors
from gnomonic.errors import CheckpointError, ConfigError, InputError
from gnomonic.models.config import NomicBertConfig
from gnomonic.models.nomic_bert import NomicBert, NomicBertForMaskedLM
from tests.models.conftest import native_state, shake
from tests.privileges import obeying_permissions
from tests.reference import finish, pool

TASKS = ("search_query", "search_document", "classification", "clustering")
PREFIXES = {task: f"{task}: " for task in TASKS}
TEXTS = ["the quick brown fox", "a lazy dog in the house, by the river and on the mountain", "bread"]


def _spec(**values: Any) -> ModelSpec:
    values = {"name": "ours", "hidden_size": 32, "max_tokens": 512, "prefixes": PREFIXES} | values
    return ModelSpec(**values)


@pytest.fixture(scope="module")
def model(tiny_config: NomicBertConfig) -> NomicBert:
    model = NomicBert(tiny_config).eval()
    shake(model, seed=5)
    return model


@pytest.fixture
def bare(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """The tiny checkpoint without gnomonic.json."""
    folder = tmp_path / "bare"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "gnomonic.json").unlink()
    return folder


def _write(folder: Path, name: str, value: object) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def _modules(*kinds: str) -> list[dict[str, Any]]:
    return [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]


# Describing a folder


def test_a_bare_folder_is_mean_pooled_with_the_four_prefixes(bare: Path) -> None:
    assert describe(bare) == ModelSpec(name="bare", hidden_size=32, max_tokens=8192, prefixes=PREFIXES)


def test_gnomonic_json_says_everything(bare: Path) -> None:
    said = {"name": "n", "layer_norm": True, "dims": [8, 32], "max_tokens": 100, "prefixes": {"clustering": "c "}}
    _write(bare, "gnomonic.json", said)
    _write(bare, "modules.json", _modules("Transformer", "Pooling", "Normalize"))
    assert describe(bare) == ModelSpec(
        name="n", hidden_size=32, layer_norm=True, dims=(32, 8), max_tokens=100, prefixes={"clustering": "c "}
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"layernorm": True}, "layernorm: unknown setting"),
        ({"layer_norm": 1}, "layer_norm is 1; it must be of type bool"),
        ({"max_tokens": 8193}, "max_tokens is 8193; config.json allows 1 to 8192"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"hidden_size": 64}, "hidden_size is 64, but config.json says 32"),
        ({"dims": [64]}, "dims is .64.; it must hold whole numbers from 1 to 32"),
        ({"dims": [0]}, "dims"),
        ({"dims": ["8"]}, "dims"),
        ({"prefixes": {"query": "q: "}}, "prefixes must map"),
        ({"prefixes": {"clustering": 1}}, "prefixes must map"),
        ({"kind": "vision"}, "kind is 'vision'"),
    ],
)
def test_a_wrong_gnomonic_json_is_refused(bare: Path, said: dict[str, Any], message: str) -> None:
    _write(bare, "gnomonic.json", said)
    with pytest.raises(ConfigError, match=message):
        describe(bare)


@pytest.mark.parametrize("name", ["gnomonic.json", "config.json", "sentence_bert_config.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000])
def test_a_damaged_json_file_is_a_checkpoint_error_that_names_it(bare: Path, name: str, text: str) -> None:
    _write(bare, "modules.json", _modules("Transformer", "Pooling"))
    (bare / name).parent.mkdir(exist_ok=True)
    (bare / name).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=name):
        describe(bare)


@pytest.mark.parametrize(
    ("kinds", "layer_norm"),
    [(("Transformer", "Pooling"), True), (("Transformer", "Pooling", "Normalize"), False)],
    ids=["v1.5", "v1"],
)
def test_the_published_modules_tell_the_generations_apart(bare: Path, kinds: tuple[str, ...], layer_norm: bool) -> None:
    _write(bare, "modules.json", _modules(*kinds))
    assert describe(bare).layer_norm is layer_norm


@pytest.mark.parametrize("modules", [{}, [1], [{"path": ""}], "x"])
def test_damaged_modules_are_refused(bare: Path, modules: object) -> None:
    _write(bare, "modules.json", modules)
    with pytest.raises((CheckpointError, ConfigError), match=r"modules\.json"):
        describe(bare)


def test_a_module_that_is_not_implemented_is_named(bare: Path) -> None:
    _write(bare, "modules.json", _modules("Transformer", "Pooling", "Dense"))
    with pytest.raises(ConfigError, match="the module Dense is not implemented"):
        describe(bare)


def test_a_layer_norm_with_weights_of_its_own_is_refused(bare: Path) -> None:
    _write(bare, "modules.json", _modules("Transformer", "Pooling", "LayerNorm", "Normalize"))
    (bare / "2_LayerNorm").mkdir()
    weights = {"norm.weight": np.full(32, 2, np.float32), "norm.bias": np.zeros(32, np.float32)}
    save_file(weights, bare / "2_LayerNorm" / "model.safetensors")
    with pytest.raises(ConfigError, match=r"weights of its own \(norm\.weight\)"):
        describe(bare)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        {"pooling_mode": "cls"},
        {"pooling_mode": ["mean", "max"]},
        {"pooling_mode_mean_tokens": True, "include_prompt": False},
    ],
)
def test_other_pooling_is_refused(bare: Path, pooling: dict[str, Any]) -> None:
    _write(bare, "modules.json", _modules("Transformer", "Pooling"))
    _write(bare, "1_Pooling/config.json", pooling)
    with pytest.raises(ConfigError, match="not implemented"):
        describe(bare)


@pytest.mark.parametrize("pooling", [{"pooling_mode": "mean"}, {"pooling_mode_mean_tokens": True}, {}])
def test_mean_pooling_is_read_in_old_and_new_words(bare: Path, pooling: dict[str, Any]) -> None:
    _write(bare, "modules.json", _modules("Transformer", "Pooling"))
    _write(bare, "1_Pooling/config.json", pooling)
    assert describe(bare).layer_norm


def test_prompts_and_length_come_from_sentence_transformers(bare: Path) -> None:
    _write(bare, "sentence_bert_config.json", {"max_seq_length": 300})
    prompts = {"query": "Q: ", "document": "", "clustering": "C: ", "other": "O: "}
    _write(bare, "config_sentence_transformers.json", {"prompts": prompts})
    spec = describe(bare)
    assert spec.max_tokens == 300
    assert spec.prefixes == PREFIXES | {"search_query": "Q: ", "clustering": "C: "}


@pytest.mark.parametrize("inside", ["nomic-embed-text-v1.5", "models--nomic-ai--nomic-embed-text-v1.5/snapshots/abc"])
def test_a_copy_of_a_known_model_is_finished_as_the_catalog_says(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / inside
    folder.mkdir(parents=True)
    _write(folder, "config.json", NomicBertConfig().to_hf())
    spec = describe(folder)
    assert (spec.layer_norm, spec.dims) == (True, (768, 512, 256, 128, 64))
    assert (spec.repo, spec.golden) == ("", ())


def test_a_known_name_with_another_width_is_another_model(bare: Path) -> None:
    folder = bare.rename(bare.parent / "nomic-embed-text-v1.5")
    assert not describe(folder).layer_norm


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        describe(tmp_path)


def test_a_wrong_config_value_names_the_file(bare: Path) -> None:
    _write(bare, "config.json", {**json.loads((bare / "config.json").read_text()), "prenorm": True})
    with pytest.raises(ConfigError, match=r"bare/config\.json: prenorm=True is not implemented"):
        read_config(bare)


# Loading and saving


def _pooled(model: NomicBert, tokens: dict[str, NDArray[np.int64]]) -> NDArray[np.float64]:
    weights = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    rows = zip(tokens["input_ids"], tokens["attention_mask"].sum(1), strict=True)
    return np.stack([pool(weights, model.config, np.asarray(ids[:n])) for ids, n in rows])


@pytest.mark.parametrize(
    ("dtype", "kind"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_loading_gives_a_model_in_eval_mode(tiny_checkpoint: Path, dtype: str, kind: torch.dtype) -> None:
    model = load_text(tiny_checkpoint, dtype=dtype)
    assert not model.training
    weights = load_file(tiny_checkpoint / "model.safetensors")
    for name, parameter in model.named_parameters():
        assert parameter.dtype == kind
        assert parameter.requires_grad
        assert torch.equal(parameter.detach(), torch.from_numpy(weights[name]).to(kind))


def test_loading_leaves_the_random_state_alone(tiny_checkpoint: Path) -> None:
    before = torch.get_rng_state()
    load_text(tiny_checkpoint)
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_takes_another_config(tiny_checkpoint: Path) -> None:
    config = replace(read_config(tiny_checkpoint), rotary_scaling_factor=2.0)
    assert load_text(tiny_checkpoint, config=config).config == config


def test_an_unknown_dtype_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(InputError, match="dtype 'int4' is unknown; choose one of fp32, fp16, bf16"):
        load_text(tiny_checkpoint, dtype="int4")


def test_a_masked_lm_is_loaded_with_tied_tables(tmp_path: Path, tiny_config: NomicBertConfig) -> None:
    made = NomicBertForMaskedLM(tiny_config)
    state = {name: tensor.detach().clone().numpy() for name, tensor in made.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    _write(tmp_path, "config.json", tiny_config.to_hf())
    found = load_masked_lm(tmp_path)
    assert found.cls.predictions.decoder.weight is found.bert.embeddings.word_embeddings.weight
    for name, tensor in made.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    encoder = load_text(tmp_path)
    assert torch.equal(encoder.emb_ln.weight, made.bert.emb_ln.weight)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_saving_and_loading_give_the_model_back(
    tmp_path: Path, tiny_checkpoint: Path, model: NomicBert, dtype: str
) -> None:
    spec = _spec(layer_norm=True, dims=(32, 16), license="Apache-2.0", parameters=7, description="A test.")
    save(model, spec, tiny_checkpoint, tmp_path / "out", dtype=dtype)
    narrow = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    for name, tensor in load_text(tmp_path / "out").state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].to(narrow).float())
    assert describe(tmp_path / "out") == spec
    assert read_config(tmp_path / "out") == model.config


@pytest.mark.parametrize("layer_norm", [True, False], ids=["v1.5", "v1"])
def test_without_gnomonic_json_the_other_files_say_the_same(
    tmp_path: Path, tiny_checkpoint: Path, model: NomicBert, layer_norm: bool
) -> None:
    spec = _spec(layer_norm=layer_norm)
    save(model, spec, tiny_checkpoint, tmp_path / "ours")
    (tmp_path / "ours" / "gnomonic.json").unlink()
    assert describe(tmp_path / "ours") == spec


def test_a_model_in_training_is_saved_unchanged(
    tmp_path: Path, tiny_checkpoint: Path, tiny_config: NomicBertConfig
) -> None:
    training = NomicBert(tiny_config).train()
    before = {name: tensor.clone() for name, tensor in training.state_dict().items()}
    save(training, _spec(), tiny_checkpoint, tmp_path / "out", dtype="bf16")
    assert training.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.state_dict().items())


def test_saving_again_replaces_the_checkpoint(tmp_path: Path, tiny_checkpoint: Path, model: NomicBert) -> None:
    for description in ("first", "second"):
        save(model, _spec(description=description), tiny_checkpoint, tmp_path / "out")
    assert describe(tmp_path / "out").description == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_saving_leaves_other_content_alone(tmp_path: Path, tiny_checkpoint: Path, model: NomicBert, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
    place = out / "thesis.txt" if kind == "folder" else out
    place.write_text("years of work")
    with pytest.raises(CheckpointError, match="is not a checkpoint saved by Gnomonic"):
        save(model, _spec(), tiny_checkpoint, out)
    assert place.read_text() == "years of work"


@pytest.mark.parametrize("failing", ["write_side_files", "_publish"])
def test_a_failed_save_leaves_the_earlier_checkpoint_whole(
    tmp_path: Path, tiny_checkpoint: Path, model: NomicBert, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    save(model, _spec(description="first"), tiny_checkpoint, tmp_path / "out")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface, failing, full)
    with pytest.raises(CheckpointError, match="cannot be saved: No space left on device"):
        save(model, _spec(description="second"), tiny_checkpoint, tmp_path / "out")
    assert describe(tmp_path / "out").description == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_read_only_place_is_a_checkpoint_error(tmp_path: Path, tiny_checkpoint: Path, model: NomicBert) -> None:
    tmp_path.chmod(0o500)
    with obeying_permissions(), pytest.raises(CheckpointError, match="cannot be saved: Permission denied"):
        save(model, _spec(), tiny_checkpoint, tmp_path / "out")


def test_saving_without_a_tokenizer_is_refused(tmp_path: Path, model: NomicBert) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"looked for tokenizer\.json and vocab\.txt"):
        save(model, _spec(), tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_weight_too_large_for_fp16_is_refused(
    tmp_path: Path, tiny_checkpoint: Path, tiny_config: NomicBertConfig
) -> None:
    model = NomicBert(tiny_config)
    model.emb_ln.weight.data[3] = 1e5
    with pytest.raises(CheckpointError, match=r"emb_ln\.weight holds a value that is not finite in fp16"):
        save(model, _spec(), tiny_checkpoint, tmp_path / "out", dtype="fp16")


def test_a_masked_lm_is_not_saved_as_an_encoder(
    tmp_path: Path, tiny_checkpoint: Path, tiny_config: NomicBertConfig
) -> None:
    with pytest.raises(InputError, match=r"save its encoder, such as model\.bert"):
        save(NomicBertForMaskedLM(tiny_config), _spec(), tiny_checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"hidden_size": 64}, {"max_tokens": 8193}])
def test_a_spec_of_another_model_is_refused(
    tmp_path: Path, tiny_checkpoint: Path, model: NomicBert, wrong: dict[str, int]
) -> None:
    with pytest.raises(InputError, match="do not fit the model's 32 and 8192"):
        save(model, _spec(**wrong), tiny_checkpoint, tmp_path / "out")


# What others read and write


def _load_sentence_transformer(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings():
        # The libraries' own deprecations are not about what we wrote.
        warnings.simplefilter("ignore")
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("layer_norm", [True, False], ids=["v1.5", "v1"])
def test_sentence_transformers_gives_our_vectors(
    tmp_path: Path, tiny_checkpoint: Path, model: NomicBert, layer_norm: bool, dtype: str
) -> None:
    save(model, _spec(layer_norm=layer_norm), tiny_checkpoint, tmp_path / "out", dtype=dtype)
    theirs = _load_sentence_transformer(tmp_path / "out")
    ours = load_text(tmp_path / "out")
    assert theirs.max_seq_length == 512
    for task, prefix in PREFIXES.items():
        tokens = theirs.tokenizer([prefix + text for text in TEXTS], padding=True, return_tensors="np")
        expected = finish(_pooled(ours, tokens), layer_norm=layer_norm, dim=32)
        np.testing.assert_allclose(theirs.encode(TEXTS, prompt_name=task), expected, atol=1e-6)


def test_sentence_transformers_truncates_to_our_vectors(
    tmp_path: Path, tiny_checkpoint: Path, model: NomicBert
) -> None:
    save(model, _spec(layer_norm=True, dims=(32, 8)), tiny_checkpoint, tmp_path / "out")
    theirs = _load_sentence_transformer(tmp_path / "out")
    tokens = theirs.tokenizer([PREFIXES["clustering"] + text for text in TEXTS], padding=True, return_tensors="np")
    expected = finish(_pooled(model, tokens), layer_norm=True, dim=8)
    found = theirs.encode(TEXTS, prompt_name="clustering", truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_search_prompts_go_by_both_names(tmp_path: Path, tiny_checkpoint: Path, model: NomicBert) -> None:
    save(model, _spec(), tiny_checkpoint, tmp_path / "out")
    theirs = _load_sentence_transformer(tmp_path / "out")
    np.testing.assert_array_equal(theirs.encode_query(TEXTS), theirs.encode(TEXTS, prompt_name="search_query"))
    np.testing.assert_array_equal(theirs.encode_document(TEXTS), theirs.encode(TEXTS, prompt_name="search_document"))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_transformers_gives_our_token_vectors(
    tmp_path: Path, tiny_checkpoint: Path, model: NomicBert, dtype: str
) -> None:
    from transformers import AutoModel, AutoTokenizer

    save(model, _spec(), tiny_checkpoint, tmp_path / "out", dtype=dtype)
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")(TEXTS, padding=True, return_tensors="pt")
    native = AutoModel.from_pretrained(tmp_path / "out")
    assert type(native).__name__ == "NomicBertModel"
    with torch.inference_mode():
        found = native(**tokens).last_hidden_state
        lengths = tokens["attention_mask"].sum(1).tolist()
        packed = tokens["input_ids"][tokens["attention_mask"] == 1]
        expected = load_text(tmp_path / "out")(packed, lengths)
    torch.testing.assert_close(found[tokens["attention_mask"] == 1], expected, atol=1e-5, rtol=0)


def test_a_tokenizer_of_vocab_txt_alone_is_enough_for_transformers(
    tmp_path: Path, tiny_checkpoint: Path, model: NomicBert
) -> None:
    from transformers import AutoTokenizer

    (tmp_path / "words").mkdir()
    shutil.copy(tiny_checkpoint / "vocab.txt", tmp_path / "words")
    save(model, _spec(), tmp_path / "words", tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    expected = AutoTokenizer.from_pretrained(tiny_checkpoint)
    assert tokenizer(TEXTS)["input_ids"] == expected(TEXTS)["input_ids"]
    assert tokenizer.model_max_length == 512


def test_nothing_saved_needs_remote_code(tmp_path: Path, tiny_checkpoint: Path, model: NomicBert) -> None:
    save(model, _spec(), tiny_checkpoint, tmp_path / "out")
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert written == {
        "1_Pooling/config.json", "2_Normalize/config.json", "config.json", "config_sentence_transformers.json",
        "gnomonic.json", "model.safetensors", "modules.json", "sentence_bert_config.json", "tokenizer.json",
        "tokenizer_config.json", "vocab.txt",
    }  # fmt: skip
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())


@pytest.mark.parametrize("shards", [False, True])
def test_what_transformers_saves_is_read(tmp_path: Path, model: NomicBert, shards: bool) -> None:
    from transformers import NomicBertConfig as NativeConfig
    from transformers import NomicBertModel as NativeModel

    native = NativeModel(NativeConfig(**model.config.to_hf()))
    native.load_state_dict(native_state(model.state_dict()))
    native.save_pretrained(tmp_path, max_shard_size="20KB" if shards else "5GB")
    assert (tmp_path / "model.safetensors.index.json").exists() is shards
    found = read_tensors(tmp_path, read_config(tmp_path))
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_what_sentence_transformers_saves_is_described(
    tmp_path: Path, tiny_checkpoint: Path, model: NomicBert, make_checkpoint: Callable[..., Path]
) -> None:
    save(model, _spec(layer_norm=True), tiny_checkpoint, tmp_path / "ours")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _load_sentence_transformer(tmp_path / "ours").save_pretrained(str(tmp_path / "theirs"))
    found = describe(tmp_path / "theirs")
    assert found == _spec(name="theirs", layer_norm=True)
    assert torch.equal(load_text(tmp_path / "theirs").emb_ln.bias, model.emb_ln.bias)
