"""Records Whisper's two vocabularies and what openai-whisper's tokenizers make of a thousand mixed-script strings.

Needs an environment of its own with openai-whisper:

    python tests/references/make_tokenizer_reference.py

It writes `tokenizers.npz.xz` beside itself, which `tokenizer_files.py` reads. A vocabulary is kept as its 50,000
merges, two ids each: openai-whisper's assets hold tokens by rank only, but a token's merge is what byte pair encoding
makes of its bytes with all lower ranks.
"""

from __future__ import annotations

import base64
import io
import json
import lzma
import random
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import whisper
from whisper.tokenizer import LANGUAGES, Tokenizer, get_tokenizer

ASSETS = Path(whisper.__file__).parent / "assets"
N_STRINGS = 1000

SENTENCES = """\
The quick brown fox jumps over the lazy dog, doesn't it?|We'll see; I'd say they're late, and he's been waiting.
Straße, Übermut und Äpfel: „Grüße“ aus Köln!|Où est passée l'élève ? À l'école, bien sûr…
El niño comió piñas y jalapeños.
Não há coração que não sinta saudade.|Perché no? Così è la vita.|Čeština má háčky a čárky: příliš žluťoučký kůň.
Zażółć gęślą jaźń.|Árvíztűrő tükörfúrógép.|Iğdır'da çok güzel şeyler öğrendim.|Þetta er íslenska, ekki ðanska.
Широкая электрификация южных губерний.|Їжак їсть ґрунт.|Ђорђе ће љубити њу.|Ο καφές είναι έτοιμος, έτσι;|Բարև ձեզ
გამარჯობა მსოფლიო|שָׁלוֹם עוֹלָם, מה שלומך?|السلام عليكم ورحمة الله|یہ اردو ہے۔|این فارسی است؛ بله
नमस्ते दुनिया, कैसे हैं आप?|বাংলা ভাষা সুন্দর।|ਪੰਜਾਬੀ ਬੋਲੀ|ગુજરાતી ભાષા|தமிழ் மொழி அழகு|తెలుగు భాష|ಕನ್ನಡ ನುಡಿ|മലയാളം ഭാഷ
සිංහල භාෂාව|ภาษาไทยไม่มีช่องว่าง|ພາສາລາວ|မြန်မာစကား|ភាសាខ្មែរ|བོད་སྐད་|አማርኛ ቋንቋ ነው
다람쥐 헌 쳇바퀴에 타고파|我能吞下玻璃而不伤身体。
天氣很好,我們去散步吧!|いろはにほへと ちりぬるを|カタカナとひらがなと漢字。|佢哋喺度食飯
Đây là tiếng Việt, có dấu.|Kiswahili ni lugha nzuri.|ʻŌlelo Hawaiʻi|Ẹ káàárọ̀|Māori kōrero|Монгол хэл|Қазақ тілі
♪♪ la la la ♪♪|♩♫♬♭♮♯|[APPLAUSE] (laughs) >> SPEAKER: -- hm|<|en|><|0.00|>|{"key": ["value", 1.5e-3]}|a_b^c~d|e=mc²
https://example.org/a?b=c&d=%20#e|someone@example.org|C:\\\\temp\\\\file.txt
$3.50, €20, £7, ¥1000, ₹99|12:30–14:45, 1/2, ½, 3×4|100%
👩‍👩‍👧‍👦 👍🏽 🇩🇪🇯🇵 ❤️|e\u0301 vs \u00e9|\U0001d4d0\U0001d4d1\U0001d4d2|ﬁ ﬂ ﷺ|①②③ ⅷ|I'M SHE'LL YOU'VE we'Re\
"""

#: Blocks of which any character may come: first and last code point. All of Unicode 6, which every library knows.
BLOCKS = (
    (0x21, 0x7E), (0xA1, 0xAC), (0xAE, 0x17F), (0x250, 0x2AF), (0x300, 0x345), (0x391, 0x3A1), (0x3B1, 0x3C9),
    (0x410, 0x45F), (0x531, 0x556), (0x5D0, 0x5EA), (0x621, 0x64A), (0x660, 0x669), (0x905, 0x939), (0x93E, 0x94D),
    (0x995, 0x9A8), (0xB85, 0xB8A), (0xE01, 0xE3A), (0xE40, 0xE5B), (0x1000, 0x102A), (0x10D0, 0x10F0),
    (0x1200, 0x1248), (0x2010, 0x2027), (0x2030, 0x205E), (0x20A0, 0x20B9), (0x2190, 0x21FF), (0x2500, 0x257F),
    (0x2600, 0x26FF), (0x3001, 0x303F), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FC0), (0xAC00, 0xD7A3),
    (0xE000, 0xE010), (0xFF01, 0xFF5E), (0x10330, 0x1034A), (0x1F300, 0x1F320), (0x1F600, 0x1F640), (0x20000, 0x20020),
)  # fmt: skip

SPACES = (
    "", " ", " ", " ", "  ", "   ", "\n", " \n", "\n\n ", "\t", "\r\n", "\u00a0", "\u3000", "\u2009", "\u200b", "\x07",
)  # fmt: skip


def mixed_strings() -> list[str]:
    """Pieces of sentences in many scripts, random characters and odd spaces, joined."""
    rng = random.Random(20)
    sentences = [sentence for line in SENTENCES.splitlines() for sentence in line.split("|")]

    def piece() -> str:
        kind = rng.random()
        if kind < 0.15:
            return "".join(chr(rng.randint(*rng.choice(BLOCKS))) for _ in range(rng.randint(1, 8)))
        if kind < 0.25:
            return str(rng.randint(0, 10 ** rng.randint(1, 12)))
        sentence = rng.choice(sentences)
        start = rng.randrange(len(sentence))
        return sentence[start : start + rng.randint(1, 24)]

    strings = dict.fromkeys(sentences)  # as an ordered set
    while len(strings) < N_STRINGS:
        strings["".join(piece() + rng.choice(SPACES) for _ in range(rng.randint(1, 6)))] = None
    return list(strings)


def tokens_by_rank(name: str) -> list[bytes]:
    """The tokens of one of openai-whisper's assets, in the order of their ids."""
    lines = [line.split() for line in (ASSETS / f"{name}.tiktoken").read_text().splitlines() if line]
    assert [int(rank) for _, rank in lines] == list(range(len(lines)))
    return [base64.b64decode(token) for token, _ in lines]


def merges(tokens: list[bytes]) -> np.ndarray:
    """uint16 [2, merge]: the two ids that each token is merged from; the first 256 tokens are the bytes."""
    rank = {token: index for index, token in enumerate(tokens)}
    pairs = []
    for token in tokens[256:]:
        if not token:  # the last of the multilingual vocabulary: nothing is merged into it
            continue
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            ranks = [rank.get(a + b, len(tokens)) for a, b in pairwise(parts)]
            at = min(range(len(ranks)), key=ranks.__getitem__)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        pairs.append([rank[part] for part in parts])
    assert len(pairs) == 50_000
    return np.array(pairs, np.uint16).T


def lengths(groups: list[list[int]]) -> list[int]:
    """Of each group."""
    return [len(group) for group in groups]


def record(tokenizer: Tokenizer, strings: list[str]) -> dict[str, np.ndarray]:
    """Ids of all strings, the text of each without its first and last token, and its words."""
    ids, cut, by_spaces, by_unicode = [], [], [], []
    for string in strings:
        # What looks like a special token is text.
        tokens = tokenizer.encode(string, disallowed_special=())
        assert tokenizer.decode(tokens) == string
        ids.append(tokens)
        cut.append(tokenizer.decode(tokens[1:-1]))
        by_spaces.append(lengths(tokenizer.split_tokens_on_spaces(tokens)[1]))
        by_unicode.append(lengths(tokenizer.split_tokens_on_unicode(tokens)[1]))
    return {
        "ids": np.array(list(chain.from_iterable(ids)), np.uint16),
        "n_ids": np.array(lengths(ids), np.uint16),
        "cut": as_bytes(cut),
        "by_spaces": as_bytes(by_spaces),
        "by_unicode": as_bytes(by_unicode),
        "non_speech": np.array(tokenizer.non_speech_tokens, np.uint16),
        "special": np.array(
            [tokenizer.eot, tokenizer.sot, tokenizer.translate, tokenizer.transcribe, tokenizer.sot_lm,
             tokenizer.sot_prev, tokenizer.no_speech, tokenizer.no_timestamps, tokenizer.timestamp_begin], np.uint16
        ),
    }  # fmt: skip


def as_bytes(content: object) -> np.ndarray:
    """JSON, as an array."""
    return np.frombuffer(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), np.uint8)


def main() -> None:
    """Record both vocabularies."""
    strings = mixed_strings()
    arrays = {
        "strings": as_bytes(strings),
        "languages": as_bytes(list(LANGUAGES)),
        "version": as_bytes(f"openai-whisper {whisper.__version__}"),
    }
    for name, asset in (("english", "gpt2"), ("multilingual", "multilingual")):
        tokens = tokens_by_rank(asset)
        arrays[f"{name}/bytes"] = np.frombuffer(b"".join(tokens[:256]), np.uint8)
        arrays[f"{name}/merges"] = merges(tokens)
        recorded = record(get_tokenizer(name == "multilingual"), strings)
        arrays |= {f"{name}/{key}": value for key, value in recorded.items()}
    content = io.BytesIO()
    np.savez(content, **arrays)
    target = Path(__file__).with_name("tokenizers.npz.xz")
    target.write_bytes(lzma.compress(content.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{target}: {target.stat().st_size / 1e3:.0f} kB; {len(strings)} strings")


if __name__ == "__main__":
    main()
