"""What the pages share: one HTML file that needs no network and no script, for a screen, a phone or paper."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from gateway.evaluation.telling import Sheet

# The colours are those of Okabe and Ito (2008), made lighter on dark ground; on paper the light ones count.
_LIGHT = (
    "--ink:#1b1f24;--dim:#57606a;--ground:#fff;--card:#f6f8fa;--rule:#d0d7de;--good:#00664a;--bad:#a33c00;"
    "--c0:#0072b2;--c1:#d55e00;--c2:#00795a;--c3:#b0568b;--c4:#b07a00;--c5:#2f8fc4"
)
_DARK = (
    "--ink:#e6edf3;--dim:#9da7b1;--ground:#0d1117;--card:#161b22;--rule:#30363d;--good:#4cc9a0;--bad:#ff9d66;"
    "--c0:#58a6e8;--c1:#ff8c42;--c2:#3ac79f;--c3:#e59bc6;--c4:#f0b93a;--c5:#8fd0f5"
)
_DRAWING = """\
svg text{fill:var(--dim);font-size:11px} svg .axis{fill:var(--ink);font-size:12px}
.diamond{stroke:var(--ink);stroke-width:1.5} .ring{fill:none;stroke:var(--ink);stroke-width:1.8}
.grid{stroke:var(--rule);stroke-width:.6} .diagonal{stroke:var(--dim);stroke-dasharray:1 4}
.guide{stroke:var(--dim);stroke-width:.9;stroke-dasharray:5 3} .series{fill:none;stroke-width:2.2}
.series.s0{stroke:var(--c0)}.series.s1{stroke:var(--c1)}.series.s2{stroke:var(--c2)}
.series.s3{stroke:var(--c3)}.series.s4{stroke:var(--c4)}.series.s5{stroke:var(--c5)}
.whisker.s0{stroke:var(--c0)}.whisker.s1{stroke:var(--c1)}.whisker.s2{stroke:var(--c2)}
.whisker.s3{stroke:var(--c3)}.whisker.s4{stroke:var(--c4)}.whisker.s5{stroke:var(--c5)} .whisker{opacity:.6}
.dot.s0{fill:var(--c0)}.dot.s1{fill:var(--c1)}.dot.s2{fill:var(--c2)}
.dot.s3{fill:var(--c3)}.dot.s4{fill:var(--c4)}.dot.s5{fill:var(--c5)}
"""
_STYLE = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0 auto;max-width:72rem;padding:1.5rem 1rem 4rem;background:var(--ground);color:var(--ink);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans","DejaVu Sans",sans-serif}}
h1{{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}} h2{{font-size:1.15rem;margin:2.25rem 0 .5rem}}
h3{{font-size:1rem;margin:0 0 .25rem;overflow-wrap:anywhere}} p{{margin:.25rem 0}}
.dim{{color:var(--dim)}} code{{overflow-wrap:anywhere;font-size:.9em}}
.cards{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:.75rem;align-items:start}}
.card{{background:var(--card);border:1px solid var(--rule);border-radius:.5rem;padding:.75rem 1rem;break-inside:avoid}}
.card ul{{list-style:none;margin:.5rem 0 0;padding:0}}
.met,.missed{{padding-left:1.5rem;text-indent:-1.5rem}}
.met::before{{content:"✓ ";color:var(--good);font-weight:700;display:inline-block;width:1.5rem;text-indent:0}}
.missed::before{{content:"✗ ";color:var(--bad);font-weight:700;display:inline-block;width:1.5rem;text-indent:0}}
.missed{{color:var(--bad)}} .verdict{{font-size:1.1rem;font-weight:600;margin:.75rem 0}}
.plots{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1.5rem}}
figure{{margin:0;break-inside:avoid}} figcaption{{font-weight:600}} figure>svg{{width:100%;max-width:30rem;height:auto}}
.legend{{list-style:none;margin:.25rem 0;padding:0;display:flex;flex-wrap:wrap;gap:.15rem 1rem;font-size:.9rem}}
.swatch{{width:2.25rem;height:.6rem;margin-right:.35rem;vertical-align:middle}}
{_DRAWING}table{{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}}
th,td{{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--rule)}}
td{{overflow-wrap:anywhere}} td:first-child{{min-width:11.5rem}}
th{{color:var(--dim);font-weight:600}} dt{{font-weight:600;margin-top:.4rem}} dd{{margin:0}}
@media (max-width:46rem){{
  thead{{position:absolute;clip-path:inset(50%);height:1px;overflow:hidden}}
  tr{{display:block;border-bottom:2px solid var(--rule);padding:.4rem 0}}
  td,td:first-child{{min-width:0}}
  td{{display:grid;grid-template-columns:minmax(8rem,40%) 1fr;gap:.5rem;border:0;padding:.1rem 0}}
  td::before{{content:attr(data-label);color:var(--dim)}}
}}
@media print{{
  :root{{{_LIGHT}}} body{{max-width:none;padding:0;font-size:10.5pt}} h2{{break-after:avoid}} tr{{break-inside:avoid}}
  .risk{{break-inside:avoid}} table{{font-size:9pt}}
}}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Write a page around `parts`, which are HTML; the title is escaped."""
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            "<meta http-equiv=\"content-security-policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{plain(title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>{plain(title)}</h1>",
            *parts,
            "</main></body></html>\n",
        )
    )


def standalone(drawings: Iterable[str], *, width: int, height: int, legend: Iterable[tuple[str, str]]) -> str:
    """Put SVG drawings of one size (in their own units) side by side into one SVG that needs no page around it.

    `legend` gives a swatch and its text for each line.
    """
    placed = [
        drawing.replace("<svg ", f'<svg x="{place * width}" y="34" width="{width}" height="{height}" ', 1)
        for place, drawing in enumerate(drawings)
    ]
    whole = width * len(placed)
    keys, at = [], 12
    for mark, text in legend:
        keys.append(mark.replace("<svg ", f'<svg x="{at}" y="12" width="36" height="8" ', 1))
        keys.append(f'<text x="{at + 42}" y="20">{plain(text)}</text>')
        at += 60 + 7 * len(text)
    style = f"svg{{{_LIGHT}}}{_DRAWING}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {height + 40}"><style>{style}'
        f'text{{font-family:system-ui,"Liberation Sans",sans-serif}}</style>'
        f'<rect width="{whole}" height="{height + 40}" fill="var(--ground)"/>{"".join(keys)}{"".join(placed)}</svg>\n'
    )


def plain(text: str) -> str:
    """Escape text that comes from outside, and keep a number and its percent sign on one line."""
    return escape(text).replace(" %", "\u00a0%")


def table(sheet: Sheet) -> str:
    """Write a table with its title."""
    head = "".join(f'<th scope="col">{plain(column)}</th>' for column in sheet.columns)
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{plain(column)}"><span>{plain(cell)}</span></td>'
            for column, cell in zip(sheet.columns, row, strict=True)
        )
        + "</tr>"
        for row in sheet.rows
    )
    return (
        f"<section><h2>{plain(sheet.title)}</h2><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></section>"
    )


def meanings(terms: Iterable[tuple[str, str]]) -> str:
    """Write what the words mean."""
    told = "".join(f"<dt>{plain(term)}</dt><dd>{plain(text)}</dd>" for term, text in terms)
    return f"<section><h2>What the words mean</h2><dl>{told}</dl></section>"


def source(rows: Iterable[tuple[str, str]]) -> str:
    """Write where the figures come from."""
    told = "".join(f"<dt>{plain(name)}</dt><dd><code>{plain(text)}</code></dd>" for name, text in rows)
    return f"<section><h2>Where it comes from</h2><dl>{told}</dl></section>"
