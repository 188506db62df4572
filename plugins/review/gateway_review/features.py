"""What the second look at a question sees: hashed word n-grams, and cues of intent. Pure and deterministic.

The cues are acts and manners that make a clinical question harmful (to forge, to hide, without consent, so that nobody
notices), and frames that make the same words benign (to recognise, to prevent, to report). They carry over to questions
whose words were not trained on; the n-grams carry what the cues have no word for.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from zlib import crc32

BUCKETS = 1 << 15
"""Buckets for n-grams; the cues come after them."""

CUES: tuple[tuple[str, str], ...] = (
    (
        "forge",
        r"falsif\w*|forg(?:e|ed|ing)|fabricat\w*|fak(?:e|ed|ing)|doctor(?:ed|ing) (?:the"
        r"|a|an|this|records?|images?)|invent(?:ed|ing)?|made[- ]up|make up|backdat\w*"
        r"|counterfeit\w*|photoshop\w*|tamper\w*|manipulat\w* (?:\w+ ){0,2}(?:patients?|data|records?|results?|evidence"
        r"|famil\w+|images?|outcomes?|people|others|someone|public|statistics)|alter(?:ing)? (?:the"
        r"|a|an|this|my|patient|medical|records?|data|results?)",
    ),
    (
        "hide",
        r"hid(?:e|es|ing)|conceal\w*|cover(?:ing)? up|withhold\w*|delete"
        r"|erase|destroy\w*|get(?:ting)? rid of|leave out|keep(?:ing)? (?:it"
        r"|this) (?:secret|from)",
    ),
    (
        "unseen",
        r"without (?:being|getting|anyone|anybody|leaving|them|him|her|the \w+|my \w+"
        r"|their|his|any(?:one)?|a|detection)\W+(?:\w+\W+){0,4}?(?:caught|notic\w+"
        r"|know\w*|trace\w*|detect\w+|find\w*|suspicion|seen)"
        r"|undetect\w*|unnotic\w*|secretly|covertly|so that (?:no|nobody|no one)\b"
        r"|(?:nobody|no one) (?:notices|knows|finds|will)|untraceab\w*|get(?:ting)? away with"
        r"|evad(?:e|ing)|avoid(?:ing)? (?:detection|getting caught|liability|being caught"
        r"|suspicion)",
    ),
    (
        "unconsented",
        r"without (?:\w+ ){0,3}(?:consent|permission|asking|telling|knowledge|approval"
        r"|authori[sz]ation|informing|knowing)|against (?:\w+ ){1,3}(?:will|wishes"
        r"|refusal)|after \w+ (?:has|have) (?:refused|said no)|refuses|non-?consensual\w*",
    ),
    (
        "unlicensed",
        r"without (?:\w+ ){0,4}(?:licen[cs]e|licensed|prescription|training|qualification\w*"
        r"|supervision|being a \w+|medical|evidence|examin\w+|review\w*|looking)|unlicensed"
        r"|unqualified|unapproved|untested|off the books|black market",
    ),
    (
        "fraud",
        r"fraud\w*|upcod\w*|scam\w*|cheat\w*|decei\w*|deception|mislead\w*|trick(?:ed"
        r"|ing)?|l(?:ie|ying) (?:to|about)|swindl\w*|embezzl\w*|kickbacks?|brib\w*"
        r"|overbill\w*|overcharg\w*|unnecessary|not needed|never (?:given|done|happened"
        r"|performed)|is not there|did not happen|pass(?:ing)? off|as if (?:a|an|the)",
    ),
    (
        "coerce",
        r"coerc\w*|forc(?:e|ing)|pressur(?:e|ing)|blackmail\w*|threaten\w*|intimidat\w*"
        r"|persuade|convinc(?:e|ing)|talk \w+ into|exploit\w*|guilt|groom\w*|seduc\w*",
    ),
    (
        "deny",
        r"discriminat\w*|turn(?:ing)? away|refus(?:e|ing) (?:to|care|treatment|service\w*)"
        r"|deny\w*|denial|belittl\w*|mock\w*|humiliat\w*|shame|insult\w*"
        r"|ignor(?:e|ing)|dismiss\w*|neglect\w*|inferior",
    ),
    (
        "steal",
        r"steal\w*|stol\w*|rob\w*|smuggl\w*|divert\w*|sell\w*|buy\w*|traffick\w*|hack\w*"
        r"|break(?:ing)? into (?:the|an?|our|my|their|someone)|crack"
        r"|bypass\w*|circumvent\w*|ransomware|malware|sabotag\w*"
        r"|hijack\w*|spy\w*|stalk\w*|re-?identif\w*|leak\w*",
    ),
    (
        "hurt",
        r"kill\w*|murder\w*|poison\w*|hurt\w*|harm\w*|injur\w*|assault\w*|attack\w*"
        r"|die|dies|suicide|overdose|torture|abus\w*|weapon\w*|bomb\w*|infect\w*|spread\w*"
        r"|releas\w*|anthrax|virus|explosive\w*|kidnap\w*",
    ),
    (
        "assault",
        r"(?:kill|murder|poison|hurt|harm|injure|stab|chok|strangl|shoot|punch|hit|beat|attack|assassinat|execut|eliminat"
        r"|exterminat|slaughter|butcher|smash|drown|burn|torture|kidnap|abduct|rap|mug|drug|slap|tackle|eradicat|snipe)"
        r"(?:e|ing)? (?:\w+ ){0,2}?(?:someone|somebody|anyone|people|persons?|humans?|man|men|woman|women|child"
        r"|children|kids?|toddler|baby|wife|husband|girlfriend|boyfriend|boss|neighbou?r|father|mother|brother|sister|uncle|rival"
        r"|ex|colleague|cop|politician|patients?|him|her|them|myself)",
    ),
    (
        "drugs",
        r"opioids?|oxycodone|oxycontin|morphine|fentanyl|meth\w*|heroin|cocaine|steroids?"
        r"|xanax|ketamine|narcotics?|prescription",
    ),
    (
        "misinform",
        r"misinformation|disinformation|conspirac\w*|hoax\w*|plot|propaganda|cures? (?:a"
        r"|all|cancer|everything)|anti-?vax\w*|cause autism|scare|discourage|false (?:claims?"
        r"|information)|pseudoscien\w*|viral",
    ),
    (
        "profit",
        r"for (?:money|profit|cash|financial gain)|maximi[sz]\w* (?:profit|revenue"
        r"|billing)|insur(?:er|ance)|pays?|personal gain|bill(?:ing|s)?|claims?|win a lawsuit"
        r"|sue",
    ),
    (
        "make",
        r"^\W*(?:write|draft|create|generate|provide|give|tell|explain|describe|list"
        r"|develop|design|help|show|find|suggest|compose|instruct|teach|prescribe"
        r"|recommend|convince|persuade)\b",
    ),
    (
        "how",
        r"\bhow (?:do|can|could|should|would|might|to|does)\b|what (?:is|are) (?:the"
        r"|some) (?:best |most \w+ )?(?:ways?|methods?|steps|strateg\w+|techniques"
        r"|tactics)",
    ),
    (
        "i-want",
        r"\bi (?:want|need|would like|plan|intend|am going) to\b|my (?:wife|husband"
        r"|father|mother|boss|neighbou?r|colleague|ex|rival|enemy|uncle|daughter|son"
        r"|child|roommate|co-?worker)",
    ),
    (
        "protect",
        r"recogni[sz]\w*|detect\w*|prevent\w*|report(?:ing)? (?:suspected|an?|the"
        r"|my|its|child|abuse)|protect\w*|avoid\w*|safe(?:ly|ty)?|stop\w*|reduce|identify"
        r"|screen\w*|diagnos\w*|treat(?:ed|ment|ments|ing)?|manag\w*|assess\w*|suspect(?:ed"
        r"|s)?|signs? of|symptoms?|antidote|rule out|correct\w*|disclose|support",
    ),
    (
        "learn",
        r"^\W*(?:is|are|does|do|can|which|what|where|why|when|who|name|in which)\b"
        r"|what (?:is|are|does|do|causes?)|which|difference between|why (?:is|are"
        r"|do|does|did)|mean|suggest\w*|indicate\w*|show(?:s|n)?|history|definition",
    ),
    ("patient", r"patients?|doctors?|physicians?|hospital|clinic|medical|health|nurse"),
    (
        "image",
        r"images?|scans?|x-?rays?|ct|mri|ultrasound|fundus|oct|dermoscopy|endoscopy"
        r"|colonoscopy|histolog\w*|biops\w*|mammogra\w*|lesions?|mass|organ|lung|brain",
    ),
    (
        "self",
        r"i (?:have|am having|am experiencing|feel|noticed|got|had)|i've been|my (?:doctor"
        r"|skin|eye|eyes|head|stomach|chest|back|leg|arm|foot)|what could|should i",
    ),
)
_CUES = tuple(
    re.compile(rf"\b(?:{pattern})(?!\w)" if not pattern.startswith(("^", "\\b")) else pattern, re.IGNORECASE)
    for _, pattern in CUES
)
SIZE = BUCKETS + 3 * len(CUES)
"""Length of the weight vector: n-grams, then one, two, and three or more hits of each cue."""

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_FOLD = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})


def normalise(text: str) -> str:
    """Fold case, compatibility forms, quotes and runs of blanks."""
    folded = unicodedata.normalize("NFKC", text).translate(_FOLD).lower()
    return re.sub(r"\s+", " ", folded).strip()


def ngrams(words: list[str]) -> set[int]:
    """Give the buckets of the words' unigrams, bigrams and trigrams; begin and end are marked."""
    marked = ["<s>", *words, "</s>"]
    found = {crc32(word.encode()) % BUCKETS for word in words}
    found.update(crc32(f"{a} {b}".encode()) % BUCKETS for a, b in pairwise(marked))
    found.update(
        crc32(f"{a} {b} {c}".encode()) % BUCKETS for a, b, c in zip(marked, marked[1:], marked[2:], strict=False)
    )
    return found


def features(text: str) -> tuple[set[int], list[int]]:
    """Give the buckets of n-grams and of cues in `text`, which is normalised and short."""
    cues: list[int] = []
    for index, pattern in enumerate(_CUES):
        hits = sum(1 for _ in zip(range(3), pattern.finditer(text), strict=False))
        if hits:
            cues += [BUCKETS + 3 * index + i for i in range(hits)]
    return ngrams(_WORD.findall(text)), cues


def windows(text: str, size: int = 60, stride: int = 40) -> list[str]:
    """Cut normalised `text` into windows of `size` words that overlap, so that none of it is diluted."""
    words = text.split(" ")
    if len(words) <= size:
        return [text]
    return [" ".join(words[i : i + size]) for i in range(0, len(words) - size + stride, stride)]
