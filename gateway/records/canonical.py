"""The exact bytes of a record: JSON with sorted keys, no spaces, UTF-8; the same record always gives the same bytes."""

from __future__ import annotations

import msgspec

from gateway.records.record import Record

_encoder = msgspec.json.Encoder(order="sorted")
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record, strict=True)


def canonical(record: Record) -> bytes:
    """Give the canonical bytes of `record`.

    Raises ValueError where they would not read back as the same record: a number that is not finite (JSON has none, and
    msgspec would write null), or a value of another type than its field's, which a constructor does not check.
    """
    body = _encoder.encode(record)
    try:
        again = _decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise ValueError(f"the record does not read back: {exc}") from None
    if again != record or _encoder.encode(again) != body:
        raise ValueError("the record does not read back as itself")
    return body


def parse(body: bytes) -> Record:
    """Read the canonical bytes of a record; ValueError where they are anything else.

    Spaces, another order of keys, a doubled key or another spelling of a number are refused too.
    """
    try:
        record = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("the bytes are no record that this version knows") from None
    if _encoder.encode(record) != body:
        raise ValueError("the bytes are not in canonical form")
    return record
