"""The reader of server-sent events: split anywhere, with any line end, under its bounds, and strict about garbage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_openai.errors import UpstreamNonsense, UpstreamTooLarge
from gateway_openai.sse import Events


def read(*chunks, most=10_000, line=1_000):
    events = Events(most=most, line=line)
    found = [event for chunk in chunks for event in events.feed(chunk)]
    return found + list(events.end())


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b": ping\n\n: ping\n\ndata: a\n\n:\n\n", ["a"]),
        (b"data: a\ndata: b\ndata\ndata: c\n\n", ["a\nb\n\nc"]),
        (b"event: x\nid: 1\nretry: 5\ndata:a\n\n", ["a"]),
        (b"data:  a \n\n", [" a "]),
        (b"\n\n\ndata: a\n\n\n\n", ["a"]),
        (b"data: a\n", ["a"]),
        (b"data: a\n\ndata: [DONE]", ["a", "[DONE]"]),
        (b"data: a\n\ndata: b", ["a"]),
        ("data: größer 肺\n\n".encode(), ["größer 肺"]),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(stream, wanted):
    assert read(stream) == wanted
    assert read(*(stream[n : n + 1] for n in range(len(stream)))) == wanted


def test_empty_chunks_change_nothing():
    assert read(b"data: a\r", b"", b"\n", b"", b"\r", b"", b"\n") == ["a"]


LINES = st.lists(
    st.one_of(
        st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=20).map(lambda t: "data: " + t),
        st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=20).map(lambda t: ":" + t),
        st.sampled_from(["", "", "data", "data:", "event: x", "id: 7", "retry: 100"]),
    ),
    max_size=30,
)


@given(LINES, st.sampled_from([("\n",), ("\r\n",), ("\r",), ("\n", "\r\n")]), st.data())
def test_chunks_and_line_ends_make_no_difference(lines, ends, data):
    plain = "".join(line + "\n" for line in [*lines, ""])
    mixed = "".join(line + ends[n % len(ends)] for n, line in enumerate([*lines, ""]))
    stream = mixed.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*chunks) == read(plain.encode())


def test_a_long_line_and_a_long_stream_are_too_large():
    with pytest.raises(UpstreamTooLarge):
        read(b"data: " + b"x" * 1_000)
    with pytest.raises(UpstreamTooLarge):
        read(*[b"x" * 100] * 11)
    with pytest.raises(UpstreamTooLarge):
        read(b"data: " + b"x" * 1_000 + b"\n\n")
    with pytest.raises(UpstreamTooLarge):
        read(*[b": ping\n\n"] * 1_300)
    assert read(b"data: " + b"x" * 994 + b"\n\n") == ["x" * 994]


@pytest.mark.parametrize(
    "stream", [b"<html>\n", b"SSH-2.0\n", b'{"a": 1}\n\n', b"Data: a\n\n", b"data: \xff\xfe\n\n", b"data: \xe8\x82\n\n"]
)
def test_garbage_is_nonsense_and_what_came_before_is_given(stream):
    events = Events(most=1_000).feed(b"data: a\n\n" + stream)
    assert next(events) == "a"
    with pytest.raises(UpstreamNonsense):
        next(events)


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_raise_nothing_but_faults(stream):
    try:
        found = read(stream, most=200, line=100)
    except (UpstreamNonsense, UpstreamTooLarge):
        return
    assert all(isinstance(event, str) for event in found)
