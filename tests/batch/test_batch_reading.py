"""Lines of an input file: cut however the pieces come, with flat memory, and read strictly, each fault told."""

import json

import pytest
from batch.kit import CHAT, chat
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.batch.reading import LineError, lines_in, lines_of, read_envelope, read_judged
from gateway.records import Context
from gateway.store import Batch

BOM = b"\xef\xbb\xbf"


def batch(**said):
    fields = dict.fromkeys(Batch.__struct_fields__)
    return Batch(**fields | {"id": "batch_1", "kind": "answer", "endpoint": CHAT, "said": Context(**said)})


async def cut(data, size, longest):
    async def pieces():
        for start in range(0, len(data), size):
            yield data[start : start + size]

    return [(line.number, line.start, line.size, line.raw) async for line in lines_of(pieces(), longest=longest)]


def plainly(data, longest):
    """Cut the whole file at once."""
    found, place = [], 0
    whole = data.split(b"\n")
    for number, text in enumerate(whole, 1):
        end = 0 if number == len(whole) else 1
        if not text and not end:
            break
        mark = 3 if number == 1 and text.startswith(BOM) else 0
        raw = None if len(text) > longest else text[mark:]
        found.append((number, place + mark, len(text) + end - mark, raw))
        place += len(text) + end
    return found


@given(
    st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r\n", BOM, b"\xff", b"ef" * 9])).map(b"".join),
    st.integers(1, 9),
    st.integers(0, 20),
)
@example(BOM + b"a" * 30 + b"\nb", 2, 4)
@example(b"\n\n" + BOM + b"\n", 1, 2)
async def test_lines_are_the_same_however_the_pieces_come(data, size, longest):
    found = await cut(data, size, longest)
    assert found == plainly(data, longest)
    for number, start, length, raw in found:
        if raw is not None:
            assert lines_in(data[start : start + length], number, 1) == {number: raw}


async def test_a_line_that_is_too_long_is_not_kept():
    """Of a gigabyte without a newline, sent in pieces, only some bytes are ever held."""
    held = []

    async def pieces():
        import tracemalloc

        tracemalloc.start()
        for _ in range(64):
            yield b"x" * 2**20
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        yield b'\n{"custom_id": 1}'

    found = [(line.number, line.raw) async for line in lines_of(pieces(), longest=2**20)]
    assert found == [(1, None), (2, b'{"custom_id": 1}')]
    assert held[0] < 8 * 2**20


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{bad", "it is not valid JSON: expecting property name enclosed in double quotes at column 2"),
        (b"\xff{}", "it is not valid JSON: byte 0 is not UTF-8"),
        (b"[1]", "it is a list; send one JSON object"),
        (b'{"custom_id": "a", "custom_id": "b"}', "the key `custom_id` stands twice"),
        (b'{"body": {"n": NaN}}', "`NaN` is no JSON number"),
        (chat(None), "`custom_id` is missing; give each line a string of 1 to 512 characters"),
        (chat(7), "`custom_id` is a number"),
        (chat(""), "`custom_id` is empty"),
        (chat("x" * 513), "`custom_id` is too long"),
        (chat("a", method="GET"), "`method` is `GET`; give `POST`"),
        (chat("a") | {"url": "/v1/embeddings"}, f"`url` is `/v1/embeddings`; the batch is for `{CHAT}`, give that"),
        (chat("a") | {"url": None}, "`url` is null"),
        (chat("a") | {"body": "x"}, "`body` is `x`; give the object that would be sent"),
        ({"custom_id": "a", "method": "POST", "url": CHAT}, "`body` is missing"),
        (chat("a", body={"stream": True}), "`body.stream` is true; a batch has no streams, leave it out"),
        (chat("a", contxt={}), "unknown field `contxt`; did you mean `context`?"),
        (chat("a", context=[]), "`context` is a list; give an object"),
        (chat("a", context={"patent": "1"}), "unknown field `patent` in `context`; did you mean `patient`?"),
        (chat("a", context={"purpose": "fun"}), "`context.purpose` is `fun`; give a code of HL7's PurposeOfUse"),
        (chat("a", context={"on_behalf_of": "Dr No"}), "`context.on_behalf_of` is not what is expected"),
        (chat("a", context={"study": " "}), "`context.study` is empty"),
        (chat("a", context={"study": 5}), "`context.study` is a number; give a string"),
    ],
)
def test_what_is_wrong_with_a_line_is_told(line, told):
    raw = line if isinstance(line, bytes) else json.dumps(line).encode()
    with pytest.raises(LineError) as caught:
        read_envelope(raw, batch())
    assert told in caught.value.message
    assert caught.value.code == "invalid_line"
    given_ = line.get("custom_id") if isinstance(line, dict) else None
    assert caught.value.custom_id == (given_ if given_ == "a" else None)


def test_what_a_line_says_counts_before_what_its_batch_says():
    line = chat("a", context={"patient": "4711", "task": None})
    said = read_envelope(json.dumps(line).encode(), batch(patient="1", purpose="TREAT", claimed_person="nurse-7"))
    assert said.context == Context(patient="4711", purpose="TREAT", claimed_person="nurse-7")
    assert read_envelope(json.dumps(chat("a")).encode(), batch(task="x")).context == Context(task="x")


def test_the_line_of_a_reaudit_names_one_decision():
    assert read_judged(b'{"custom_id": "dec_1", "decision": "dec_1"}') == "dec_1"
    with pytest.raises(LineError, match="`decision` is `dec_2`; give the id of the decision, as in `custom_id`"):
        read_judged(b'{"custom_id": "dec_1", "decision": "dec_2"}')
    with pytest.raises(LineError, match="unknown field `body`"):
        read_judged(b'{"custom_id": "dec_1", "decision": "dec_1", "body": {}}')
