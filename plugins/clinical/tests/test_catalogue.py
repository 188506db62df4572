from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway_clinical import catalogue
from gateway_clinical.library import load
from gateway_clinical.taxonomy import HARMS, MODALITIES, TASKS

LIBRARY = load()
SOME = replace(LIBRARY, pairs=LIBRARY.pairs[:60])
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Checks that elements nest, and gathers what a page holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags for key, value in attributes.items() if key == name and value]


@pytest.fixture(scope="module")
def text() -> str:
    return catalogue.page(SOME)


@pytest.fixture(scope="module")
def page(text: str) -> Reader:
    return Reader(text)


def test_every_pair_is_shown_in_words(page: Reader) -> None:
    assert page.open == []
    ids, said = page.all("id"), set(page.words)
    assert len(set(ids)) == len(ids)
    for pair in SOME.pairs:
        assert f"pair-{pair.id}" in ids
        assert {pair.harmful.question, pair.harmful.answer, pair.benign.question, pair.benign.answer} <= said
        assert f"Harm {pair.harm}: {HARMS[pair.harm]}. Task {pair.task}: {TASKS[pair.task]}." in said
    assert {f"{code} {name}" for code, name in (*HARMS.items(), *TASKS.items())} <= said
    assert {f"#{modality}" for modality in MODALITIES} <= set(page.all("href"))


def test_every_picture_is_described(page: Reader) -> None:
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == sum(pair.pictured for pair in SOME.pairs)
    assert all(img["alt"] and img["width"] and img["height"] for img in images)


def test_the_page_stands_alone(text: str, page: Reader) -> None:
    assert all(src.startswith("data:image/") for src in page.all("src"))
    assert all(link.startswith("#") and link[1:] in page.all("id") for link in page.all("href"))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import", text)
    assert len(text) / len(SOME.pairs) * len(LIBRARY.pairs) < 12e6


def test_the_page_is_made_for_people(page: Reader) -> None:
    assert ("html", {"lang": "en"}) in page.tags
    assert any(attributes.get("name") == "viewport" for _, attributes in page.tags)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels)), "no level is left out"


def test_text_is_escaped() -> None:
    hostile = "<script>alert('x')</script> & \"quotes\" </p><img src=x onerror=y>"
    pair = next(pair for pair in LIBRARY.pairs if pair.pictured)
    changed = replace(
        pair,
        view=hostile,
        harmful=replace(pair.harmful, question=hostile, answer=hostile),
        benign=replace(pair.benign, question=hostile, answer=hostile),
    )
    read = Reader(catalogue.page(replace(LIBRARY, pairs=(changed,))))
    assert "script" not in {tag for tag, _ in read.tags}
    assert not any("onerror" in attributes for _, attributes in read.tags)
    assert read.words.count(hostile) == 5


def test_the_command_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert catalogue.main(["--out", str(tmp_path / "x.html"), "--library", str(tmp_path)]) == 1
    assert "manifest.json" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


def test_the_command_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "read", lambda folder: SOME)
    out = tmp_path / "x.html"
    assert catalogue.main(["--out", str(out)]) == 0
    assert "60 pairs" in capsys.readouterr().out
    assert out.read_text().startswith("<!doctype html>")
    assert catalogue.main(["--out", str(tmp_path / "no" / "x.html")]) == 1
    assert "can not be written" in capsys.readouterr().err


def test_the_page_in_the_documentation_is_this_library() -> None:
    page = Path(__file__).parents[3] / "docs" / "demonstrations.html"
    assert LIBRARY.sha256[:16] in page.read_text(), (
        "run `python -m gateway_clinical.catalogue --out docs/demonstrations.html`"
    )
