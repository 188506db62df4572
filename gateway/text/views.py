"""Give the readings of a text that a stage should judge."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from gateway.text.bases import Span
from gateway.text.decoders import decode
from gateway.text.fold import normalise
from gateway.text.pieces import joined
from gateway.text.turns import forged_tokens, forged_turns

_KEPT_FREE = 6  # views kept for what is decoded
_AROUND = 2_000  # characters of the surrounding text that are shown with what was decoded


class View(Struct, frozen=True, kw_only=True):
    """One reading of a text.

    `name` says how it was read, in codes joined by ``+`` where one stood in another:

    - ``raw``; ``normalised``: one spelling for what looks the same, and broken words joined;
    - ``turns``: one of the turns that the text forges; ``tokens``: the same, by control tokens of a chat template;
      ``joined``: pieces that it asks to be joined, or places that it asks to be filled;
    - bytes: ``base64``, ``base32``, ``base58``, ``base85`` (Ascii85 too), ``hex`` (binary, decimal and octal too),
      ``url`` (quoted-printable too), ``escapes``, ``tags`` (tag characters, variation selectors, zero-width bits);
    - letters: ``rot13``, ``caesar``, ``atbash``, ``rot47``, ``leet``, ``pig`` (pig latin), ``reversed``, ``backwards``
      (word by word), ``order`` (words from last to first), ``turned`` (upside down), ``places`` (in the alphabet),
      ``morse``, ``nato`` (radio alphabet), ``braille``, ``acrostic`` (first letters of lines).

    Several views may share a name: what was decoded alone, and in its place in the text; each forged turn. `cut`, on
    the last view, says that there was more to decode than the limits allow: the text was not read whole, so a stage
    must not call it inspected.
    """

    name: str
    text: str
    cut: bool = False


def _in_place(text: str, spans: list[Span]) -> str:
    """Put what was decoded where it stood, with at most `_AROUND` characters of the text on either side."""
    pieces: list[str] = []
    done = max(spans[0][0] - _AROUND, 0)
    for start, end, plain in spans:
        if start < done:
            continue
        between = text[done:start]
        if len(between) > 2 * _AROUND:
            between = between[:_AROUND] + " … " + between[-_AROUND:]
        pieces += [between, plain]
        done = end
    pieces.append(text[done : done + _AROUND])
    return "".join(pieces)


def views(text: str, *, depth: int = 3, limit: int = 16, max_chars: int = 65_536) -> tuple[View, ...]:
    """Give the readings of `text`: raw, then normalised where it differs in more than white space, then decoded ones.

    What is decoded is searched again, `depth` encodings deep. At most `limit` views come back, and the decoded ones
    hold at most `max_chars` characters together; where there was more, the last view has `cut` set. Plain clinical text
    takes well under a millisecond.
    """
    found = [View(name="raw", text=text)]
    seen = {text, " ".join(text.split())}
    queue: deque[tuple[str, str, int]] = deque([("", text, 0)])
    plain = normalise(text)
    if plain not in seen and limit > 1:
        found.append(View(name="normalised", text=plain))
        seen.add(plain)
        queue.append(("", plain, 0))
    left, cut = max_chars, False
    while queue and not cut:
        prefix, source, level = queue.popleft()
        forged = "tokens" if forged_tokens(source) else "turns"
        for kind, pieces in ((forged, forged_turns(source)), ("joined", joined(source))):
            for piece in pieces:
                key = " ".join(piece.split())
                # What is left out here is no loss of reading: `source` holds it, and is a view itself.
                if key in seen or len(found) >= limit - _KEPT_FREE or len(piece) > left or level == depth:
                    continue
                seen.add(key)
                left -= len(piece)
                name = f"{prefix}+{kind}" if prefix else kind
                found.append(View(name=name, text=piece))
                if kind == "joined":
                    queue.append((name, piece, level + 1))
        for kind, spans in decode(source):
            name = f"{prefix}+{kind}" if prefix else kind
            if level == depth:
                cut = True
                break
            whole = _in_place(source, spans)
            alone = whole if kind == "leet" else " ".join(payload for _, _, payload in spans)
            for place, reading in enumerate((alone, whole)):
                key = " ".join(reading.split())
                if not key or key in seen:
                    continue
                seen.add(key)
                if len(found) >= limit or not left:
                    cut = True
                    break
                shown = reading[:left]
                cut = cut or len(shown) < len(reading)
                left -= len(shown)
                found.append(View(name=name, text=shown))
                if place == 0:
                    queue.append((name, shown, level + 1))
                    tidy = normalise(shown)
                    if tidy in seen:
                        continue
                    seen.add(tidy)
                    queue.append((name, tidy, level + 1))
                    if len(found) < limit and len(tidy) <= left:
                        left -= len(tidy)
                        found.append(View(name=f"{name}+normalised", text=tidy))
                    else:
                        cut = True
    if cut:
        found[-1] = View(name=found[-1].name, text=found[-1].text, cut=True)
    return tuple(found)
