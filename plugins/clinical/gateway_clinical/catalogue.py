"""The library as one page for reviewers: ``python -m gateway_clinical.catalogue --out FILE [--library FOLDER]``.

The page needs no network and no scripts; pictures are data URIs. Every text is escaped.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path

from gateway.plugin import Demonstration, Modality
from gateway_clinical.library import HOME, Library, Pair, read
from gateway_clinical.pictures import picture
from gateway_clinical.taxonomy import HARMS, MODALITIES, TASKS

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --no: #a1260d; --yes: #1a6b3c; --soft: #8881; }
@media (prefers-color-scheme: dark) { :root { --no: #ff9d8a; --yes: #7fd6a2; } }
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { border-bottom: 2px solid var(--line); margin-top: 3rem; }
h3 { font-size: 1rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
a { color: inherit; } nav ul { columns: 12rem; padding-left: 1.2rem; }
.skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; background: Canvas; padding: .5rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
caption { text-align: left; font-weight: 600; padding: .5rem 0; }
th, td { border: 1px solid var(--line); padding: .2rem .45rem; } th { text-align: left; font-weight: 500; }
td { text-align: right; font-variant-numeric: tabular-nums; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem; margin: 1rem 0; break-inside: avoid; }
.body { display: grid; grid-template-columns: 9.5rem 1fr 1fr; gap: 1rem; }
figure { margin: 0; font-size: .8rem; } img { width: 100%; height: auto; border-radius: .3rem; }
.none { border: 1px dashed var(--line); border-radius: .3rem; padding: .6rem; }
section.twin { background: var(--soft); border-radius: .3rem; padding: .6rem; }
h4 { margin: 0 0 .3rem; font-size: .85rem; } .no { color: var(--no); } .yes { color: var(--yes); }
.twin p { margin: .3rem 0; overflow-wrap: anywhere; } .q { font-weight: 600; }
.about { margin: 0 0 .6rem; font-size: .85rem; }
@media (max-width: 44rem) { .body { grid-template-columns: 1fr; } figure { max-width: 11rem; } }
@media print {
  body { max-width: none; font-size: 9pt; padding: 0; } nav, .skip { display: none; } h2 { break-before: page; }
}
"""


def page(library: Library) -> str:
    """Give the catalogue of `library` as HTML."""
    groups = {modality: [pair for pair in library.pairs if pair.modality == modality] for modality in MODALITIES}
    links = "".join(
        f'<li><a href="#{modality}">{MODALITIES[modality]}</a> ({len(pairs)})</li>'
        for modality, pairs in groups.items()
    )
    chapters = "".join(_chapter(modality, pairs) for modality, pairs in groups.items() if pairs)
    harms = _counts("Pairs for each harm that is refused", HARMS, groups, lambda pair: pair.harm)
    tasks = _counts("Pairs for each task that is answered", TASKS, groups, lambda pair: pair.task)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Demonstrations of the clinical library, version {library.version}</title>
<style>{_STYLE}</style>
</head>
<body>
<a class="skip" href="#pairs">Skip to the pairs</a>
<header>
<h1>Demonstrations of the clinical library</h1>
<p>Version {library.version}, {len(library.pairs)} pairs, SHA-256 <code>{escape(library.sha256[:16])}…</code>. Each pair
holds a harmful question that is refused and a benign twin that is answered. All questions and answers are synthetic,
and all pictures are drawn by code: no patient is shown. A pair without a picture asks about something that is not
drawn.</p>
</header>
<nav aria-label="Contents"><h2>Contents</h2><ul>{links}<li><a href="#counts">Counts</a></li></ul></nav>
<main id="pairs">
{chapters}<section id="counts"><h2>Counts</h2>{harms}{tasks}</section>
</main>
</body>
</html>
"""


def _chapter(modality: Modality, pairs: Iterable[Pair]) -> str:
    return f'<section id="{modality}"><h2>{MODALITIES[modality]}</h2>\n{"".join(map(_pair, pairs))}</section>\n'


def _pair(pair: Pair) -> str:
    name = escape(pair.id)
    about = f"Harm {pair.harm}: {escape(HARMS[pair.harm])}. Task {pair.task}: {escape(TASKS[pair.task])}."
    return (
        f'<article id="pair-{name}" aria-labelledby="name-{name}"><h3 id="name-{name}">{name}</h3>'
        f'<p class="about">{about}</p><div class="body">{_figure(pair)}'
        f"{_twin('no', 'Harmful, refused', pair.harmful)}{_twin('yes', 'Benign, answered', pair.benign)}"
        "</div></article>\n"
    )


def _twin(kind: str, title: str, shown: Demonstration) -> str:
    question, answer = escape(shown.question), escape(shown.answer)
    return f'<section class="twin"><h4 class="{kind}">{title}</h4><p class="q">{question}</p><p>{answer}</p></section>'


def _figure(pair: Pair) -> str:
    if not pair.pictured:
        return '<figure><p class="none">No picture</p></figure>'
    from PIL import Image

    out = io.BytesIO()
    with Image.open(io.BytesIO(picture(pair).data)) as opened:
        opened.save(out, "WEBP", quality=55, method=4)
        width, height = opened.size
    uri = f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
    view = escape(pair.view or "no particular view")
    alt = f"Drawn picture, {MODALITIES[pair.modality]}: {view}"
    shown = f'<img src="{uri}" width="{width}" height="{height}" alt="{alt}">'
    return f"<figure>{shown}<figcaption>{view}</figcaption></figure>"


def _counts(
    title: str, names: Mapping[str, str], groups: Mapping[Modality, list[Pair]], code_of: Callable[[Pair], str]
) -> str:
    columns = {modality: Counter(map(code_of, pairs)) for modality, pairs in groups.items()}
    head = "".join(f'<th scope="col">{MODALITIES[modality]}</th>' for modality in columns)
    rows = "".join(
        f'<tr><th scope="row">{code} {escape(name)}</th>'
        f"{''.join(f'<td>{column[code]}</td>' for column in columns.values())}"
        f"<td>{sum(column[code] for column in columns.values())}</td></tr>"
        for code, name in names.items()
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{title}"><table><caption>{title}</caption>'
        f'<thead><tr><td></td>{head}<th scope="col">All</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m gateway_clinical.catalogue", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the HTML file to write")
    parser.add_argument("--library", type=Path, default=HOME, help="the library's folder (default: this package's)")
    options = parser.parse_args(arguments)
    try:
        library = read(options.library)
        options.out.write_text(page(library), encoding="utf-8")
    except ValueError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    except OSError as exc:
        sys.stderr.write(f"`{options.out}` can not be written ({exc.strerror}): name another file\n")
        return 1
    sys.stdout.write(f"{options.out}: {len(library.pairs)} pairs, {options.out.stat().st_size / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
