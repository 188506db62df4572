"""Everybody can use it: labels, captions, landmarks, contrast, keyboard, and pages that fit their window."""

import re
from pathlib import Path

import pytest
from browser.kit import ROOT
from browser.sample import a_weeks_work

CSS = (Path(ROOT) / "gateway" / "web" / "console" / "assets" / "console.css").read_text()

CHECK = """() => {
  const wrong = [];
  for (const one of document.querySelectorAll('input:not([type=hidden]), select, textarea'))
    if (!one.labels.length && !one.getAttribute('aria-label')) wrong.push('no label: ' + one.name);
  for (const one of document.querySelectorAll('table')) {
    if (!one.caption) wrong.push('no caption');
    for (const head of one.querySelectorAll('th')) if (!head.scope) wrong.push('no scope: ' + head.textContent);
  }
  for (const one of document.querySelectorAll('img')) if (!one.alt) wrong.push('no alt');
  for (const one of document.querySelectorAll('a, button'))
    if (!(one.textContent.trim() || one.getAttribute('aria-label'))) wrong.push('no name: ' + one.outerHTML);
  const ids = [...document.querySelectorAll('[id]')].map(one => one.id);
  for (const id of ids) if (ids.filter(other => other === id).length > 1) wrong.push('twice: ' + id);
  for (const name of ['aria-labelledby', 'aria-describedby'])
    for (const one of document.querySelectorAll(`[${name}]`))
      if (!document.getElementById(one.getAttribute(name))) wrong.push('leads nowhere: ' + one.getAttribute(name));
  if (document.querySelectorAll('main').length !== 1) wrong.push('main');
  if (document.querySelectorAll('h1').length !== 1) wrong.push('h1');
  if (!document.documentElement.lang || !document.title) wrong.push('lang or title');
  let level = 1;
  for (const one of document.querySelectorAll('h1, h2, h3, h4')) {
    const next = Number(one.tagName[1]);
    if (next > level + 1) wrong.push('a level is left out before: ' + one.textContent);
    level = next;
  }
  if (document.documentElement.scrollWidth > innerWidth) wrong.push('wider than its window');
  return wrong;
}"""


@pytest.fixture(scope="module")
def decisions(served):
    return served.log(*a_weeks_work(served.run))


@pytest.mark.parametrize("width", [1280, 900])
def test_pages_are_well_made(walker, decisions, width):
    officer = walker("officer")
    officer.page.set_viewport_size({"width": width, "height": 800})
    paths = ["decisions", "reviews", "integrity", "export", "nothing", *(f"decisions/{id_}" for id_ in decisions[3:6])]
    for path in paths:
        officer.go(f"/console/{path}")
        assert officer.page.evaluate(CHECK) == [], path
    officer.go(f"/console/decisions/{decisions[4]}")
    officer.page.get_by_label("Reason", exact=True).first.fill("a look at its headings")
    officer.press("Reveal")
    assert officer.page.evaluate(CHECK) == []
    officer.press("Sign out")
    assert officer.page.evaluate(CHECK) == []


def test_the_keyboard_goes_everywhere(walker, decisions):
    officer = walker("officer")
    page = officer.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    box = page.get_by_role("link", name="Skip to the content").bounding_box()
    assert box["y"] >= 0, "it shows itself when it has the focus"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_label("Outcome").focus()
    page.keyboard.type("with")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**outcome=withheld")
    page.get_by_role("link", name=re.compile("^Decision dec_")).focus()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")
    page.wait_for_url("**/decisions/dec_*")
    assert outline == "solid"


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    """Give the contrast of two colours (WCAG 2.2)."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_are_told_apart(scheme):
    block = re.findall(r":root \{([^}]*)\}", CSS)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
    grounds = ("ground", "sheet", "faint")
    for ink in ("ink", "quiet", "link"):
        for ground in grounds:
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for word in ("bad", "warn", "good"):
        assert _contrast(colours[word], colours[f"{word}-ground"]) >= 4.5
    assert _contrast(colours["act-ink"], colours["act"]) >= 4.5
    for ground in grounds:
        assert _contrast(colours["focus"], colours[ground]) >= 3
        assert _contrast("#7b838b", colours[ground]) >= 3, "the edge of a field"
