"""Chunks of streams as servers write them, made into pieces that add up to the answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugin import Ended, Piece, Usage
from gateway_openai.chunks import MOST_CALLS, Pieces, pieces_of
from gateway_openai.errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamNonsense,
    UpstreamRefused,
    UpstreamStatus,
    UpstreamTooLong,
)
from gateway_openai.sse import Events
from gateway_openai.wire import decode

MARKER = "zebra-4711-marker"


def chunk(*choices, **extra):
    return json.dumps({"object": "chat.completion.chunk", "choices": list(choices), **extra})


def grown(index=0, finish=None, **delta):
    return {"index": index, "delta": delta, "finish_reason": finish}


def call(index=0, id=None, name=None, arguments=None):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"index": index, "type": "function", "function": function} | ({} if id is None else {"id": id})


def read(*chunks, n=1, **settings):
    pieces = Pieces(n, model="asked", **settings)
    found = [piece for one in chunks for piece in pieces.add(one)]
    return [*found, pieces.ended()]


def calls(pieces):
    """Add the tool calls of a stream up: (id, name, arguments) each."""
    found = {}
    for piece in pieces:
        if isinstance(piece, Piece) and piece.call is not None:
            assert piece.call <= len(found), "a call is numbered before the one before it has begun"
            id_, name, arguments = found.get(piece.call, ("", "", ""))
            found[piece.call] = (id_ or piece.call_id, name or piece.name, arguments + piece.arguments)
    return [found[number] for number in sorted(found)]


def test_text_usage_and_what_the_server_tells_of_itself():
    got = read(
        chunk(grown(role="assistant", content="")),
        chunk(grown(content="no ")),
        chunk(grown(content="fracture"), model="served", system_fingerprint="fp_1"),
        chunk(grown(finish="stop")),
        chunk(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}),
    )
    assert got == [
        Piece(text="no "),
        Piece(text="fracture"),
        Piece(finish_reason="stop"),
        Ended(model="served", usage=Usage(prompt_tokens=9, completion_tokens=2), revision="fp_1"),
    ]


def test_a_last_text_with_its_reason_is_one_piece_and_a_reason_told_again_is_passed_over():
    got = read(chunk(grown(content="a", finish="length")), chunk(grown(content="", finish="length")))
    assert got == [Piece(text="a", finish_reason="length"), Ended(model="asked")]


def test_a_refusal_is_text_and_thoughts_are_dropped():
    got = read(
        chunk(grown(reasoning_content="hidden", reasoning="hidden")),
        chunk(grown(refusal="I can ")),
        chunk(grown(refusal="not")),
        chunk(grown(finish="stop")),
    )
    assert "".join(piece.text for piece in got[:-1]) == "I can not"
    assert "hidden" not in repr(got)


def test_thoughts_are_signs_of_life_and_an_empty_chunk_is_none():
    pieces = Pieces(1, model="m")
    for told, signs in ((grown(role="assistant", content=""), 0), (grown(reasoning_content="x"), 1), (grown(), 1)):
        assert list(pieces.add(chunk(told))) == []
        assert pieces.signs == signs


def test_choices_interleave_and_each_has_to_end():
    chunks = [
        chunk(grown(0, content="a"), grown(1, content="x")),
        chunk(grown(1, content="y")),
        chunk(grown(1, finish="length")),
        chunk(grown(0, content="b", finish="stop")),
    ]
    got = read(*chunks, n=2)
    assert "".join(piece.text for piece in got[:-1] if piece.choice == 0) == "ab"
    assert "".join(piece.text for piece in got[:-1] if piece.choice == 1) == "xy"
    assert [(p.choice, p.finish_reason) for p in got[:-1] if p.finish_reason] == [(1, "length"), (0, "stop")]
    with pytest.raises(UpstreamCut):
        read(*chunks[:3], n=2)


def test_tool_calls_as_openai_and_vllm_write_them():
    got = read(
        chunk(grown(tool_calls=[call(0, "c0", "find", "")])),
        chunk(grown(tool_calls=[call(0, arguments='{"a"')])),
        chunk(grown(tool_calls=[call(1, "c1", "show", "{}"), call(0, arguments=": 1}")])),
        chunk(grown(finish="tool_calls")),
    )
    assert got[0] == Piece(call=0, call_id="c0", name="find")
    assert got[1] == Piece(call=0, arguments='{"a"')
    assert calls(got) == [("c0", "find", '{"a": 1}'), ("c1", "show", "{}")]
    assert got[-2] == Piece(finish_reason="tool_calls")


def test_whole_tool_calls_with_the_reason_in_one_chunk():
    got = read(chunk(grown(content="so", tool_calls=[call(0, "c", "f", "{}")], finish="tool_calls")))
    assert got[:-1] == [
        Piece(text="so"),
        Piece(call=0, call_id="c", name="f", arguments="{}"),
        Piece(finish_reason="tool_calls"),
    ]


def test_a_name_that_comes_late_holds_the_call_back_and_one_that_never_comes_is_nonsense():
    late = [chunk(grown(tool_calls=[call(0, "c", None, '{"a"')])), chunk(grown(tool_calls=[call(0, None, "f", ":1}")]))]
    got = read(*late, chunk(grown(finish="tool_calls")))
    assert got[0] == Piece(call=0, call_id="c", name="f", arguments='{"a":1}')
    with pytest.raises(UpstreamNonsense):
        read(late[0], chunk(grown(finish="tool_calls")))


def test_calls_that_are_all_numbered_0_are_told_apart_by_their_ids_in_ollamas_dialect():
    chunks = [
        chunk(grown(tool_calls=[call(0, "c0", "f", '{"a":1}')])),
        chunk(grown(tool_calls=[call(0, "c1", "f", '{"a":2}')])),
        chunk(grown(tool_calls=[call(0, None, None, " ")])),
        chunk(grown(finish="tool_calls")),
    ]
    assert calls(read(*chunks, calls_by_id=True)) == [("c0", "f", '{"a":1}'), ("c1", "f", '{"a":2} ')]


def test_an_id_made_up_for_each_chunk_is_no_other_call_but_another_name_is():
    got = read(
        chunk(grown(tool_calls=[call(0, "c0", "f", '{"a"')])),
        chunk(grown(tool_calls=[call(0, "c7", "f", ":1}")])),
        chunk(grown(tool_calls=[call(0, "c8", "g", "{}")])),
        chunk(grown(finish="tool_calls")),
    )
    assert calls(got) == [("c0", "f", '{"a":1}'), ("c8", "g", "{}")]


@pytest.mark.parametrize(
    "told",
    [
        MARKER,
        "[]",
        "{}",
        '{"choices": null}',
        "[" * 5_000,
        chunk(grown(1, content=MARKER)),
        chunk(grown(-1, content=MARKER)),
        chunk(grown(content=5)),
        chunk(grown(content=[{"type": "text", "text": MARKER}])),
        chunk(grown(finish=MARKER)),
        chunk(grown(tool_calls=[call(0, "c", "f", {"a": MARKER})])),
        chunk(usage={"prompt_tokens": -1, "completion_tokens": 1}),
        chunk(grown(tool_calls=[call(n, f"c{n}", "f", "") for n in range(MOST_CALLS + 1)])),
        chunk(grown(tool_calls=[call(0, "c", "f", ""), call(0, None, "g", "")])),
        '{"choices": [{"index": 0, "delta": {"content": "\\ud800"}}]}',
    ],
)
def test_what_is_no_chunk_is_nonsense_and_is_not_quoted(told):
    with pytest.raises(UpstreamNonsense) as caught:
        read(told)
    assert MARKER not in str(caught.value)


def test_what_comes_after_the_end_of_a_choice_is_nonsense():
    with pytest.raises(UpstreamNonsense):
        read(chunk(grown(content="a", finish="stop")), chunk(grown(content="b")))


@pytest.mark.parametrize(
    ("told", "fault", "status"),
    [
        ({"error": {"message": MARKER, "type": "server_error", "code": None}}, UpstreamStatus, 500),
        ({"error": {"message": MARKER, "type": "BadRequestError", "code": 400}}, UpstreamRefused, 400),
        ({"error": MARKER}, UpstreamStatus, 500),
        ({"object": "error", "message": MARKER, "type": "BadRequestError", "code": 422}, UpstreamRefused, 422),
        ({"error": {"message": MARKER, "code": "context_length_exceeded"}}, UpstreamTooLong, 400),
        ({"error": {"message": "This model's maximum context length is 9 tokens", "code": 400}}, UpstreamTooLong, 400),
        ({"error": {}}, UpstreamStatus, 500),
    ],
)
def test_an_error_in_the_stream_is_a_fault_by_its_code(told, fault, status):
    with pytest.raises(UpstreamStatus) as caught:
        read(json.dumps(told))
    assert type(caught.value) is fault
    assert caught.value.status == status
    assert MARKER not in str(caught.value)


def test_a_server_that_gives_up_has_cut_the_answer():
    with pytest.raises(UpstreamCut):
        read(chunk(grown(content="a")), chunk(grown(finish="abort")))


def test_a_whole_answer_reads_like_a_stream():
    message = {
        "role": "assistant",
        "content": "so",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    body = {"model": "served", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    assert list(pieces_of(decode(json.dumps(body).encode(), model="m", n=1))) == [
        Piece(text="so"),
        Piece(call=0, call_id="c", name="f", arguments="{}"),
        Piece(finish_reason="tool_calls"),
        Ended(model="served"),
    ]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
STEPS = st.one_of(
    st.builds(lambda i, t: grown(i, content=t), st.integers(0, 1), TEXTS),
    st.builds(lambda i, t: grown(i, refusal=t), st.integers(0, 1), TEXTS),
    st.builds(lambda i, t: grown(i, reasoning_content=t), st.integers(0, 1), TEXTS),
    st.builds(
        lambda i, k, t: grown(i, tool_calls=[call(k, f"c{k}", f"f{k}", t)]), st.integers(0, 1), st.integers(0, 2), TEXTS
    ),
)


@given(st.lists(STEPS, max_size=20), st.booleans(), st.data())
def test_however_a_stream_is_torn_apart_the_same_pieces_come(steps, pings, data):
    events = [chunk(step, model="served") for step in steps]
    events += [chunk(grown(0, finish="stop"), grown(1, finish="length")), chunk(usage={"prompt_tokens": 1}), "[DONE]"]
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    ping = f": ping{end}{end}" if pings else ""
    stream = "".join(f"{ping}data: {event}{end}{end}" for event in events).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))

    def through(chunks):
        reader, pieces, found = Events(most=2**20), Pieces(2, model="m"), []
        for one in chunks:
            for told in reader.feed(one):
                if told == "[DONE]":
                    return [*found, pieces.ended()]
                found.extend(pieces.add(told))
        raise AssertionError("the mark of the end was not read")

    whole = through([stream])
    assert through([stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]) == whole
    assert through([stream[n : n + 1] for n in range(len(stream))]) == whole
    for index in (0, 1):
        wanted = "".join(
            (step["delta"].get("content") or "") + (step["delta"].get("refusal") or "")
            for step in steps
            if step["index"] == index
        )
        assert "".join(piece.text for piece in whole[:-1] if piece.choice == index) == wanted


@given(st.text(max_size=200))
def test_events_of_any_kind_raise_nothing_but_faults(event):
    with pytest.raises(UpstreamError):
        read(event)
