"""Arrow types of users' columns: how each is kept, and what fits into it.

Lance keeps flat types, lists of them and structs of them well. Other types are kept as something it keeps well: as
another type (cast), or as bytes, each value an Arrow record batch of one row (opaque).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gnomonic.errors import SchemaError

__all__ = ["Codec", "codec_of", "conform", "is_text", "read_type", "settled_type", "show", "write_type"]

_FIELD = "value"


@dataclass(frozen=True, slots=True)
class Codec:
    """How a column of one type is kept."""

    kind: pa.DataType
    storage: pa.DataType
    opaque: bool = False

    def encode(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the values as they are kept."""
        if self.opaque:
            made = [self._pack(chunk) for chunk in values.chunks]
        elif pa.types.is_null(self.kind):
            return pa.chunked_array([pa.nulls(len(values), self.storage)])
        else:
            made = [_stripped(chunk, self.storage) for chunk in values.chunks]
        return pa.chunked_array(made, type=self.storage)

    def decode(self, values: pa.Array) -> pa.Array:
        """Return kept values as the user gave them."""
        if self.opaque:
            return self._unpack(values)
        if pa.types.is_null(self.kind):
            return pa.nulls(len(values))
        if isinstance(self.kind, pa.BaseExtensionType):
            storage = codec_of(self.kind.storage_type).decode(values)
            return pa.ExtensionArray.from_storage(self.kind, storage)
        if pa.types.is_dictionary(self.kind):
            return values.dictionary_encode()
        return values if values.type == self.kind else values.cast(self.kind)

    def _pack(self, values: pa.Array) -> pa.Array:
        batch = pa.record_batch([values], names=[_FIELD])
        absent = values.is_null().to_pylist()
        packed = [None if absent[i] else batch.slice(i, 1).serialize().to_pybytes() for i in range(len(values))]
        return pa.array(packed, pa.large_binary())

    def _unpack(self, values: pa.Array) -> pa.Array:
        schema = pa.schema([pa.field(_FIELD, self.kind)])
        absent = pa.nulls(1, self.kind)
        pieces = [
            pa.ipc.read_record_batch(pa.py_buffer(value), schema).column(0) if value is not None else absent
            for value in values.to_pylist()
        ]
        return pa.concat_arrays(pieces) if pieces else pa.array([], self.kind)


def codec_of(kind: pa.DataType) -> Codec:
    """Return how a settled type is kept."""
    if isinstance(kind, pa.BaseExtensionType):
        inner = codec_of(kind.storage_type)
        return Codec(kind, inner.storage, inner.opaque)
    if pa.types.is_null(kind):
        return Codec(kind, pa.bool_())
    if pa.types.is_dictionary(kind) and _is_flat(kind.value_type):
        return Codec(kind, kind.value_type)
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return Codec(kind, pa.decimal128(kind.precision, kind.scale))
    if _is_flat(kind) or _is_shallow(kind):
        return Codec(kind, kind)
    return Codec(kind, pa.large_binary(), opaque=True)


def settled_type(kind: pa.DataType) -> pa.DataType:
    """Return the type a column of this type gets: views and run ends become plain, dictionaries get int32 indices."""
    if pa.types.is_dictionary(kind):
        value = _plain(kind.value_type)
        return pa.dictionary(pa.int32(), value) if _is_flat(value) else value
    return _plain(kind)


def read_type(text: str) -> pa.DataType:
    """Return a type that `write_type` wrote."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))).field(0).type


def write_type(kind: pa.DataType) -> str:
    """Return a type as text."""
    return base64.b64encode(pa.schema([pa.field(_FIELD, kind)]).serialize().to_pybytes()).decode("ascii")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this settled type holds texts."""
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(held) or pa.types.is_large_string(held))


def show(value: Any) -> str:
    """Return a value as an error message shows it, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def conform(name: str, values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return values cast to a column's type.

    Raises:
        SchemaError: a value does not fit; names the column, the first such row, its value and both types.
    """
    if values.type == kind:
        return values
    if pa.types.is_null(values.type):
        return pa.chunked_array([pa.nulls(len(values), kind)])
    plain = values.cast(_plain(values.type)) if pa.types.is_dictionary(values.type) else values
    if _akin(plain.type, kind.value_type if pa.types.is_dictionary(kind) else kind):
        try:
            return _cast(plain, kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            row = _first_misfit(plain, kind)
    else:
        row = next((i for i, valid in enumerate(plain.is_valid().to_pylist()) if valid), -1)
        if row < 0:
            return pa.chunked_array([pa.nulls(len(plain), kind)])
    raise SchemaError(
        f"column {name!r} holds {kind}, but row {row} has {show(plain[row].as_py())} ({values.type})",
        hint="convert the values, or give them under another column name",
    )


def _cast(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind):
        return values.cast(kind.value_type).dictionary_encode()
    if pa.types.is_decimal(kind) and pa.types.is_integer(values.type):
        # Arrow asks for room for the largest number of the type, not for the largest there is.
        values = values.cast(pa.decimal256(76, kind.scale))
    return values.cast(kind)


def _first_misfit(values: pa.ChunkedArray, kind: pa.DataType) -> int:
    """Return the first row that cannot be cast, by halving."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _cast(values.slice(low, middle - low), kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
        else:
            low = middle
    return low


def _akin(given: pa.DataType, held: pa.DataType) -> bool:
    """Whether values of one type may go into a column of another, as far as they fit."""
    if isinstance(given, pa.BaseExtensionType) or isinstance(held, pa.BaseExtensionType):
        return bool(given == held)
    if pa.types.is_timestamp(given) and pa.types.is_timestamp(held):
        # A time without a zone is not the same as one in UTC.
        return (given.tz is None) == (held.tz is None)
    if pa.types.is_date(given):
        return bool(pa.types.is_date(held) or (pa.types.is_timestamp(held) and held.tz is None))
    if _is_listed(given) and _is_listed(held):
        return _akin(given.value_type, held.value_type) or bool(pa.types.is_null(given.value_type))
    if pa.types.is_struct(given) and pa.types.is_struct(held):
        return {field.name for field in given} <= {field.name for field in held}
    return any(test(given) and test(held) for test in (_is_number, _is_string, _is_binary, pa.types.is_time)) or any(
        test(given) and test(held) for test in (pa.types.is_duration, pa.types.is_boolean, pa.types.is_map)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    plain = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return bool(plain or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind))


def _is_listed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_flat(kind: pa.DataType) -> bool:
    """Whether Lance keeps a type of one value as it is."""
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if pa.types.is_fixed_size_binary(kind):
        return bool(kind.byte_width)
    if pa.types.is_decimal(kind):
        return bool(pa.types.is_decimal128(kind) or pa.types.is_decimal256(kind)) and kind.scale >= 0
    temporal = pa.types.is_temporal(kind) and not pa.types.is_interval(kind)
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(temporal or numeric or text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_shallow(kind: pa.DataType) -> bool:
    """Whether a type holds flat ones only; Lance loses or refuses some of what is nested deeper."""
    if pa.types.is_fixed_size_list(kind):
        return bool(kind.list_size and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)))
    if _is_listed(kind):
        return _is_flat(kind.value_type)
    return bool(pa.types.is_struct(kind)) and kind.num_fields > 0 and all(_is_flat(field.type) for field in kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return a type without views, run ends and dictionaries, at any depth."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(_plain(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type), keys_sorted=kind.keys_sorted)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain(field.type)) for field in kind])
    return kind


def _stripped(values: pa.Array, storage: pa.DataType) -> pa.Array:
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values if values.type == storage else pc.cast(values, storage)
