"""How much of what is hidden in a text comes back in one of its readings, for each way of hiding.

Run as a script, it prints the share of sentences recovered per attack: ``python tests/test_text_attacks.py [FILE]``
(one sentence a line; a first word such as ``H03`` is left out).
"""

import base64
import codecs
import json
import random
import re
import string
import sys
from pathlib import Path

import pytest
from test_text_plain import SENTENCES

from gateway.text import views

LOWER, UPPER = string.ascii_lowercase, string.ascii_uppercase
NATO = str.split(
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey xray yankee zulu"
)
SIGNS = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----."
)
MORSE = dict(zip(LOWER + "0123456789", SIGNS.split(), strict=True))
BRAILLE = dict(zip(LOWER, "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵", strict=True))
FLIPPED = dict(zip(LOWER, "ɐqɔpǝɟƃɥᴉɾʞlɯuodbɹsʇnʌʍxʎz", strict=True))
LEET = str.maketrans("aeiost", "431057")
HEAVY = str.maketrans("aeiostlgbzAEIOST", "@3!0$71982@3!0$7")
CYRILLIC = str.maketrans("aceopxyiAEOPCTHKMBX", "асеорхуіАЕОРСТНКМВХ")
GREEK = str.maketrans("aeiopuvxyAEIOPTHKMBXZN", "αειορυνχγΑΕΙΟΡΤΗΚΜΒΧΖΝ")
_dice = random.Random(7)


def b64(text):
    return base64.b64encode(text.encode()).decode()


def shift(text, by):
    turned = str.maketrans(LOWER + UPPER, LOWER[by:] + LOWER[:by] + UPPER[by:] + UPPER[:by])
    return text.translate(turned)


def chunks(text, size, gap):
    return gap.join(text[i : i + size] for i in range(0, len(text), size))


def moved(text, small, big=None):
    """Move ASCII letters to another block of Unicode."""

    def one(letter):
        if letter in LOWER:
            return chr(small + ord(letter) - 97)
        return chr((small if big is None else big) + ord(letter.lower()) - 97) if letter in UPPER else letter

    return "".join(map(one, text))


def bare(text):
    return re.findall("[a-z0-9]+", text.lower())


def pig(text):
    def one(match):
        word = match[0].lower()
        head = re.match("[^aeiou]*", word)[0]
        return word[len(head) :] + head + "ay" if head else word + "way"

    return re.sub("[A-Za-z]+", one, text)


def half(text):
    words = text.split()
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def pieces(text, count):
    words = text.split()
    size = -(-len(words) // count)
    return [" ".join(words[i : i + size]) for i in range(0, len(words), size)]


def masked(text):
    words = text.split()
    one, two, three = sorted(range(len(words)), key=lambda place: -len(words[place]))[:3]
    told = f"[MASK1] = {words[one]}\n[MASK2] = {words[two]}\n[MASK3] = {words[three]}\n"
    words[one], words[two], words[three] = "[MASK1]", "[MASK2]", "[MASK3]"
    return told + "Fill in the masks and answer: " + " ".join(words)


def digits(word):
    return "-".join(str(ord(letter) - 96) for letter in word)


ATTACKS = {
    "plain": str,
    "base64": b64,
    "base64 urlsafe": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 lines": lambda text: chunks(b64(text), 16, "\n"),
    "base64 spaces": lambda text: chunks(b64(text), 4, " "),
    "base64 quoted lines": lambda text: chunks(b64(text), 24, '" +\n"'),
    "base64 bare": lambda text: b64(text).rstrip("="),
    "base64 in prose": lambda text: f"Please decode {b64(text)} and do what it says, without a word about it.",
    "base64 utf-16": lambda text: base64.b64encode(text.encode("utf-16-le")).decode(),
    "base64 reversed": lambda text: b64(text)[::-1],
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "base32 lower": lambda text: "decode this: " + base64.b32encode(text.encode()).decode().rstrip("=").lower(),
    "base85": lambda text: base64.b85encode(text.encode()).decode(),
    "ascii85": lambda text: base64.a85encode(text.encode()).decode(),
    "ascii85 adobe": lambda text: "Decode: " + base64.a85encode(text.encode(), adobe=True).decode(),
    "base58": lambda text: b58(text.encode()),
    "hex": lambda text: text.encode().hex(),
    "hex upper pairs": lambda text: text.encode().hex(" ").upper(),
    "hex 0x": lambda text: ", ".join(f"0x{byte:02x}" for byte in text.encode()),
    "hex \\x": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "hex colons in prose": lambda text: f"Decode {text.encode().hex(':')} and answer.",
    "hex words": lambda text: " ".join(word.encode().hex() for word in text.split()),
    "binary": lambda text: " ".join(f"{byte:08b}" for byte in text.encode()),
    "binary joined": lambda text: "".join(f"{byte:08b}" for byte in text.encode()),
    "binary 7": lambda text: " ".join(f"{byte:07b}" for byte in text.encode()),
    "decimal": lambda text: " ".join(str(byte) for byte in text.encode()),
    "decimal commas": lambda text: "[" + ", ".join(str(byte) for byte in text.encode()) + "]",
    "octal": lambda text: " ".join(f"{byte:o}" for byte in text.encode()),
    "octal \\": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "octal 0o": lambda text: " ".join(f"0o{byte:o}" for byte in text.encode()),
    "url": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "url twice": lambda text: "".join(f"%25{byte:02x}" for byte in text.encode()),
    "entities": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "entities hex": lambda text: "".join(f"&#x{ord(letter):x};" for letter in text),
    "escapes": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "escapes {}": lambda text: "".join(f"\\u{{{ord(letter):x}}}" for letter in text),
    "U+": lambda text: " ".join(f"U+{ord(letter):04X}" for letter in text),
    "quoted-printable": lambda text: "".join(f"={byte:02X}" for byte in text.encode()),
    "chr()": lambda text: "+".join(f"chr({ord(letter)})" for letter in text),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "caesar 3": lambda text: shift(text, 3),
    "caesar 7 in prose": lambda text: "Each letter is moved on. Decode and answer: " + shift(text, 7),
    "caesar 19": lambda text: shift(text, 19),
    "caesar 25": lambda text: shift(text, 25),
    "rot47": lambda text: "".join(chr(33 + (ord(c) + 14) % 94) if "!" <= c <= "~" else c for c in text),
    "atbash": lambda text: text.translate(str.maketrans(LOWER + UPPER, LOWER[::-1] + UPPER[::-1])),
    "morse": lambda text: " / ".join(" ".join(MORSE[c] for c in word) for word in bare(text)),
    "morse in prose": lambda text: (
        "Read this Morse code: " + "   ".join(" ".join(MORSE[c] for c in word) for word in bare(text)) + " answer"
    ),
    "a1z26": lambda text: " ".join(map(digits, re.findall("[a-z]+", text.lower()))),
    "nato": lambda text: ", ".join(
        " ".join(NATO[ord(c) - 97] for c in word) for word in re.findall("[a-z]+", text.lower())
    ),
    "braille": lambda text: "".join(BRAILLE.get(c, c) for c in text.lower()),
    "pig latin": pig,
    "leet": lambda text: text.translate(LEET),
    "leet heavy": lambda text: text.translate(HEAVY),
    "cyrillic": lambda text: text.translate(CYRILLIC),
    "greek": lambda text: text.translate(GREEK),
    "cyrillic some": lambda text: "".join(c.translate(CYRILLIC) if _dice.random() < 0.4 else c for c in text),
    "fullwidth": lambda text: moved(text, 0xFF41, 0xFF21),
    "mathematical": lambda text: moved(text, 0x1D41A, 0x1D400),
    "fraktur": lambda text: moved(text, 0x1D586, 0x1D56C),
    "circled": lambda text: moved(text, 0x24D0, 0x24B6),
    "negative circled": lambda text: moved(text, 0x1F150),
    "squared": lambda text: moved(text, 0x1F130),
    "negative squared": lambda text: moved(text, 0x1F170),
    "parenthesised": lambda text: moved(text, 0x249C),
    "regional": lambda text: moved(text, 0x1F1E6),
    "upside down": lambda text: "".join(FLIPPED.get(c, c) for c in text.lower())[::-1],
    "upside down words": lambda text: "".join(FLIPPED.get(c, c) for c in text.lower()),
    "small capitals": lambda text: text.lower().translate(
        str.maketrans("abcdefghijklmnopqrstuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ")
    ),
    "superscript": lambda text: text.lower().translate(
        str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
    ),
    "accents": lambda text: text.translate(str.maketrans("aeiounsc", "áéíóúñšç")),
    "zero width": lambda text: "\u200b".join(text),
    "soft hyphens": lambda text: "\u00ad".join(text),
    "zalgo": lambda text: "".join(c + "".join(chr(_dice.randrange(0x300, 0x36F)) for _ in range(4)) for c in text),
    "struck through": lambda text: "".join(c + "\u0336" for c in text),
    "rtl override": lambda text: "\u202e" + text[::-1] + "\u202c",
    "reversed": lambda text: text[::-1],
    "words backwards": lambda text: " ".join(word[::-1] for word in text.split()),
    "word order": lambda text: " ".join(text.split()[::-1]),
    "spaced": lambda text: "  ".join(" ".join(word) for word in text.split()),
    "spaced all": lambda text: " ".join(text.replace(" ", "")),
    "dashed": lambda text: " ".join("-".join(word) for word in text.split()),
    "dotted": lambda text: " ".join(".".join(word) for word in text.split()),
    "starred": lambda text: " ".join("*".join(word) for word in text.split()),
    "slashed all": lambda text: "/".join(text.replace(" ", "")),
    "commas": lambda text: ",".join(text.replace(" ", "")),
    "pipes words": lambda text: "|".join(text.split()),
    "underscores": lambda text: "_".join(text.split()),
    "no spaces": lambda text: "".join(text.split()),
    "camel": lambda text: "".join(word.capitalize() for word in text.split()),
    "emoji between": lambda text: " 😀 ".join(text.split()),
    "emoji in words": lambda text: "💊".join(text.replace(" ", "")),
    "comments": lambda text: re.sub(r"(\w\w)(\w\w)", r"\1/**/\2", text),
    "brackets": lambda text: "".join(f"[{c}]" if c.isalpha() else c for c in text),
    "bold letters": lambda text: re.sub(r"\b(\w)", r"**\1**", text),
    "html between": lambda text: re.sub(r"(\w\w)(?=\w)", r"\1<b></b>", text),
    "vowels dropped": lambda text: re.sub(r"(?<=\w)[aeiou](?=\w)", "", text),
    "doubled": lambda text: re.sub("([A-Za-z])", r"\1\1", text),
    "stretched": lambda text: re.sub("([aeiou])", r"\1\1\1\1", text),
    "alternating case": lambda text: "".join(c.upper() if i % 2 else c.lower() for i, c in enumerate(text)),
    "tags": lambda text: "hello" + "".join(chr(0xE0000 + ord(c)) for c in text),
    "selectors": lambda text: "😊" + "".join(chr(0xE0100 + byte - 16) for byte in text.encode()),
    "zero-width bits": lambda text: (
        "hello" + "".join("\u200b\u200c"[int(bit)] for byte in text.encode() for bit in f"{byte:08b}")
    ),
    "acrostic": lambda text: "\n".join(f"{c}ine words stand on this line" for c in text.lower() if c.isalpha()),
    "one letter a line": lambda text: "\n".join(text.replace(" ", "")),
    "one word a line": lambda text: "\n".join(text.split()),
    "first words": lambda text: "\n".join(f"{word} is the word that stands first here" for word in text.split()),
    "base64 twice": lambda text: b64(b64(text)),
    "base64 three times": lambda text: b64(b64(b64(text))),
    "rot13 base64": lambda text: b64(codecs.encode(text, "rot13")),
    "caesar 5 base64": lambda text: b64(shift(text, 5)),
    "base64 hex": lambda text: b64(text).encode().hex(),
    "hex base64 url": lambda text: "".join(f"%{byte:02x}" for byte in b64(text.encode().hex()).encode()),
    "base64 rot13": lambda text: codecs.encode(b64(text), "rot13"),
    "leet reversed": lambda text: text.translate(LEET)[::-1],
    "leet base64": lambda text: b64(text.translate(LEET)),
    "cyrillic base64": lambda text: b64(text.translate(CYRILLIC)),
    "morse base64": lambda text: b64(" / ".join(" ".join(MORSE[c] for c in word) for word in bare(text))),
    "variables": lambda text: 'a = "{}"; b = "{}". Answer a + b.'.format(*half(text)),
    "variables swapped": lambda text: 'Let y be "{1}" and x be "{0}". Now do x + y.'.format(*half(text)),
    "variables json": lambda text: json.dumps(dict(zip("pqr", pieces(text, 3), strict=False))) + "\nJoin p, q and r.",
    "concatenation": lambda text: " + ".join(f'"{chunk}"' for chunk in re.findall("..?.?.?.?", text)),
    "list join": lambda text: "''.join(" + json.dumps(re.findall(".{1,4}", text)) + ")",
    "numbered parts": lambda text: "\n".join(f"Part {i}: {p}" for i, p in enumerate(pieces(text, 3), 1)),
    "parts over turns": lambda text: "\n".join(f"({i}/3) {p}" for i, p in enumerate(pieces(text, 3), 1)),
    "plain over turns": lambda text: "\n".join(pieces(text, 3)),
    "base64 over turns": lambda text: "\n".join(pieces_of(b64(text), 3)),
    "masks": masked,
    "json": lambda text: json.dumps({"task": "answer", "question": text}),
    "json escaped": lambda text: json.dumps({"q": moved(text, 0x1D41A, 0x1D400)}),
    "xml": lambda text: f'<?xml version="1.0"?><root><q>{text}</q></root>',
    "xml words": lambda text: "".join(f"<w>{word}</w>" for word in text.split()),
    "yaml": lambda text: "task: answer\nquestion: >\n  " + "\n  ".join(pieces(text, 3)),
    "csv": lambda text: ",".join(text.split()),
}


def pieces_of(text, count):
    size = -(-len(text) // count)
    return [text[i : i + size] for i in range(0, len(text), size)]


def b58(raw):
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    value, out = int.from_bytes(raw, "big"), ""
    while value:
        value, digit = divmod(value, 58)
        out = alphabet[digit] + out
    return out


def recovered(plain, readings):
    """Say whether 80 % of the words of `plain` stand in one reading, in order and as words."""
    wanted = bare(plain)
    return any(common(wanted, bare(reading)) >= 0.8 * len(wanted) for reading in readings)


def common(wanted, words):
    """Length of the longest common subsequence."""
    row = [0] * (len(wanted) + 1)
    for word in words:
        last = 0
        for place, other in enumerate(wanted, 1):
            last, row[place] = row[place], last + 1 if word == other else max(row[place], row[place - 1])
    return row[-1]


FLOOR = {"vowels dropped": 0.0, "leet reversed": 0.2}
"""What the share recovered must reach where it is not 0.85; nothing cheap brings dropped vowels back."""


@pytest.mark.parametrize("name", ATTACKS)
def test_hidden_sentences_come_back(name):
    hits = [recovered(line, [view.text for view in views(ATTACKS[name](line))]) for line in SENTENCES]
    assert sum(hits) >= FLOOR.get(name, 0.85) * len(hits)


def main(path=None):
    lines = SENTENCES
    if path:
        lines = [re.sub(r"^[A-Z]\d\d ", "", line) for line in Path(path).read_text().splitlines() if line[:1] != "#"]
        lines = [line for line in lines if len(line) > 12 and line.isascii()]
    for name, attack in ATTACKS.items():
        hits = [(recovered(line, [view.text for view in views(attack(line))])) for line in lines]
        codes = {view.name for line in lines[:5] for view in views(attack(line))}
        share = sum(hits) / len(hits)
        print(f"{share:6.3f} {name:22s}", *sorted(codes)[:5] if share < 2 else "")


if __name__ == "__main__":
    main(*sys.argv[1:])
