"""Telling what a scanner writes into its images (names, dates, settings, measures) from sentences that ask something.

Both are judged; they are kept apart so that a request is read without the codes around it. Whatever is in doubt stays
with the sentences, because a request may be scattered over an image word by word.
"""

from __future__ import annotations

import re

_LONGEST = 3  # words of a line of annotation that are no codes

# Words that sentences are built with. Those that are also codes (A for anterior, IN for inches, ON, NO) are left out.
_SENTENCES = """
the of to and how is are was be you your me my we our this that these those with without for from so if what when where
which who why can could should would will must may not do does don't it its all any his her them they their into by but
then than there here about before after please have has had never now only
"""
_BUILDING = frozenset(_SENTENCES.split())
_SCANNERS = """
ap pa lat ll rl lao rao supine prone erect upright portable decub semi chest abdomen abd pelvis head neck spine knee hip
foot hand wrist ankle shoulder elbow left right lt rt rs ls axial ax sagittal sag coronal cor obl hfs ffs hfp ffp
kv kvp ma mas mv sec ms mm cm hz khz mhz db fps deg fov mgy dlp ctdi ctdivol te tr ti ta fa et nex nsa st sl sp slice
thk thickness se ser series im img image acq ww wl wc win level zoom mag compressed lossy
gain gn dr dyn frq freq fr map pwr tis tib tic mi cine dist area vol vel pg mean rev tilt gantry std soft bone lung
dob sex age id mrn acc pid name date time dept hospital hosp med ctr center centre clinic university radiology
t1 t2 flair dwi adc stir mprage tse fse gre epi pre post contrast wo gd
am pm jan feb mar apr may jun jul aug sep oct nov dec
acuson aplio avanto epiq logiq lightspeed philips siemens toshiba voluson
"""
_TERMS = frozenset(_SCANNERS.split())
_NUMBER = re.compile(r"[#<>=~+-]?\d[\d.,:/x*%^-]*[a-z%]{0,4}\d{0,2}|[a-z]{1,3}[:.=#-]?\d[\d.,:/x-]*[a-z]{0,3}")
_STRIP = "[](){}:;,.=*|'\""


def _coded(word: str) -> bool:
    plain = word.lower().strip(_STRIP)
    return (len(plain) <= 1 and word != "a") or plain in _TERMS or "^" in plain or _NUMBER.fullmatch(plain) is not None


def _plain(line: str) -> int:
    """Count the words of a line that are no codes."""
    return sum(not _coded(word) for word in line.split())


def built(block: list[str]) -> bool:
    """Say whether a block holds words that sentences are built with, or a line too long for an annotation."""
    words = {word.lower().strip(_STRIP) for line in block for word in line.split()}
    return not words.isdisjoint(_BUILDING) or any(_plain(line) > _LONGEST for line in block)


def coded(block: list[str]) -> bool:
    """Say whether most of a block's words are codes, numbers, measures, or terms that scanners write."""
    return 2 * sum(map(_plain, block)) <= sum(len(line.split()) for line in block)


def _trimmed(block: list[str]) -> tuple[list[str], list[str]]:
    """Part the lines at a block's ends that are nothing but codes from those that ask: (asking, codes)."""
    asking = [number for number, line in enumerate(block) if _plain(line)]
    first, last = (asking[0], asking[-1] + 1) if asking else (0, len(block))
    return block[first:last], block[:first] + block[last:]


def part(found: list[list[str]]) -> tuple[str, str]:
    """Part blocks into (what may ask something, annotations), each as text, a line of the image on a line.

    If no block is built like a sentence, all is annotation.
    """
    sentences = any(map(built, found))
    asking: list[str] = []
    noted: list[str] = []
    for block in dict.fromkeys("\n".join(block) for block in found):  # what is tiled over an image is given once
        lines = block.split("\n")
        if built(lines):
            asks, codes = _trimmed(lines)
            asking += asks
            noted += codes
        else:
            (noted if not sentences or coded(lines) else asking).append(block)
    return "\n".join(asking), "\n".join(noted)
