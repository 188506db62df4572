"""Signed notes as others write them, and ours read back; a changed byte is no longer signed."""

import base64
import io

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.records import note

# The example of Go's golang.org/x/mod/sumdb/note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_PRIVATE = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNED = (
    TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
GO_SUM = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"


def peter():
    seed = base64.b64decode(PETER_PRIVATE)[1:]
    return note.Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(seed))


def signer(name="log.example/1", seed=1):
    return note.Signer(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def test_the_published_example_reads_and_is_made_again():
    key = note.parse_vkey(PETER)
    assert key.vkey == PETER
    read = note.parse_note(SIGNED)
    assert read.text == TEXT
    assert read.signed_by(key)
    assert peter().verifier == key
    assert note.sign(TEXT, peter()) == SIGNED


def test_the_id_of_a_well_known_key():
    assert note.parse_vkey(GO_SUM).id.hex() == "033de0ae"


def test_two_signatures_and_one_of_a_stranger():
    old, new, stranger = signer(seed=1), signer(seed=2), signer(seed=3)
    read = note.parse_note(note.sign("a\nb\n", old, new))
    assert read.signed_by(old.verifier) and read.signed_by(new.verifier)
    assert not read.signed_by(stranger.verifier) and not read.claims(stranger.verifier)
    forged = note.parse_note(note.sign("a\nb\n", old).replace("a\n", "c\n", 1))
    assert forged.claims(old.verifier) and not forged.signed_by(old.verifier)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40), st.data())
def test_any_text_reads_back_and_a_changed_one_does_not(line, data):
    text = f"{line}\n"
    made = note.sign(text, signer())
    read = note.parse_note(made)
    assert read.text == text and read.signed_by(signer().verifier)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(exclude_categories=["Cs", "Cc"]).filter(lambda c: c != text[place]))
    try:
        changed = note.parse_note(made[:place] + other + made[place + 1 :])
    except ValueError:
        return
    assert not changed.signed_by(signer().verifier)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "no signatures\n",
        "text\n\n",
        "text\n\n— name\n",
        "text\n\n— name !!!!\n",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n— name AAAA\n",
        "te\x00xt\n\n— name AAAAAAAA\n",
        SIGNED.removesuffix("\n"),
        SIGNED.replace("— PeterNeumann", "— Peter+Neumann"),
        "x" * 1_000_001,
        "text\n\n" + "— name AAAAAAAA\n" * 101,
    ],
)
def test_what_is_no_note(bad):
    with pytest.raises(ValueError, match="note"):
        note.parse_note(bad)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("+ARpc", "+ARpd"),
        PETER.replace("Peter", "Pe ter"),
        "PeterNeumann+c74f20a3+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        "PeterNeumann+c74f20a3+ARpc",
    ],
)
def test_what_is_no_key(bad):
    with pytest.raises(ValueError, match="public key"):
        note.parse_vkey(bad)


def test_heads():
    head = note.TreeHead(origin="log.example/1", size=12, root=bytes(range(32)))
    assert head.text == "log.example/1\n12\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert note.parse_head(head.text) == head
    assert note.parse_head(head.text + "an extension\n") == head
    for bad in ("", "a\n", "a\n1\n\n", "a\n01\nAAEC\n", "\n1\n" + head.text.split("\n")[2] + "\n", "a\n-1\nAA==\n"):
        with pytest.raises(ValueError, match="checkpoint"):
            note.parse_head(bad)


def test_a_file_of_notes_parts_into_them():
    made = [note.sign(f"log\n{n}\n", *[signer(seed=1), signer(seed=2)][: n % 2 + 1]) for n in range(4)]
    assert list(note.split_notes(io.StringIO("\n".join(made)))) == made
    assert list(note.split_notes(io.StringIO("".join(made)))) == made
    assert list(note.split_notes(io.StringIO("\n".join(made) + "half a no"))) == [*made, "half a no"]
    assert list(note.split_notes([])) == []


def test_a_bad_name_is_no_signer():
    for name in ("", "a b", "a+b", "a\nb"):
        with pytest.raises(ValueError, match="name"):
            signer(name)
    assert "seed" not in repr(signer()) and repr(signer()).startswith("Signer('log.example/1+")
