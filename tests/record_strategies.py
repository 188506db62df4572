"""Strategies for every type that records are made of."""

import datetime as dt
import types
import typing

import msgspec
from hypothesis import strategies as st

from gateway.records.shapes import Share


def anything(kind) -> st.SearchStrategy:
    """Give a strategy for a type of the records."""
    if kind == Share:
        return st.floats(0, 1, allow_subnormal=False).map(abs)
    origin, words = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return anything(words[0])
    if origin is typing.Literal:
        return st.sampled_from(words)
    if origin is tuple:
        return st.lists(anything(words[0]), max_size=2).map(tuple)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(anything, words))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = typing.get_type_hints(kind, include_extras=True)
        return st.builds(kind, **{name: anything(field) for name, field in fields.items() if not name.startswith("__")})
    return {
        str: st.text(max_size=12),
        int: st.integers(-(2**70), 2**70),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        type(None): st.none(),
        dt.datetime: st.datetimes(timezones=st.just(dt.UTC)),
    }[kind]
