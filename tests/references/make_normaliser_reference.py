"""Records how openai/whisper's own normalisers write many texts: English prose, spoken numbers, all sorts of scripts.

Needs an environment of its own with openai-whisper, and no model:

    OTHER/bin/python tests/references/make_normaliser_reference.py

It writes `normalisers.json` beside itself.
"""

from __future__ import annotations

import json
import random
from importlib.metadata import version
from pathlib import Path

from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

TEXTS = """\
Mr. and Mrs. Smith, Esq., met Dr. Jones of St. Louis; Prof. Kim, Jr. wasn't there.
Let's go! I'm sure we're gonna find what y'all can't, won't and shouldn't.
He'd been there, she's gone, they'd done it; who's got the keys? It's Laura's.
I'ma say imma, woulda, coulda, shoulda, ma'am, and ain't that 'twas?
The colour of the grey aeroplane; cancelled, travelling, organisation, theatre, centre, analyse, jewellery.
Um, uh, hmm, mm, mhm: mmm, umbrella and hum stay.
It cost $20 million, or €52.4 million, or £77 thousand, or ¥300, and $0.36 more.
Two dollars and seventy cents; three pounds and five; a dollar and a half; ten cents.
Nineteen eighty four, twenty twenty one, the nineteen fifties, the 1960s, the sixties.
Call nine one one, or 0800 double two three; agent double oh seven; room one oh one.
Three and a half million; two and a half; forty eight and a half percent.
One of the ones; one's own; 1 and 1s; the one hundred and first.
At 5:30 p.m., on July 4th, 1776, version 2.0.1 of 192.168.0.1 was 99.9% done, about 1,234,567.89 times.
minus five degrees, plus ten, negative one point five, positive twenty thousand
seventy six per cent of thirty three thirds and one twenty first
[laughter] (inaudible) <noise> said {curly} ((double)) [unclosed and <so on
E-mail me@example.com or visit https://example.com/a_b?c=d&e=f#g.
rock 'n' roll in the '90s; dogs' bowls; "quoted 'twice' over"
Ærøskøbing, Łódź, Straße, naïve café, Đorđe, þorn, señor, façade, Ångström, İstanbul
½ cup, ² squared, № 5, ™ ® ©, … – — • ° ′ ″ ≤ ± × ÷
３２ＡＢ ﬁne ﬂow Ⅳ ① ㎞
10km 10mm RC232 B747 4x4 3D 2nd 10 th 5 s
Zwei Grad, über dreißig Äpfel (grün) und „süße“ Bären.
Où est l'été? Ça va, garçon! « Bonjour ! » c'est-à-dire
¿Qué tal, niño? ¡Mañana será otro día!
Привет, мир! Ёлка — это ёж; 25 рублей.
Γειά σου Κόσμε! Ναι;
שלום עולם, מה נשמע?
مرحبا بالعالم، كيف حالك؟ ٣٫٥
हिन्दी में लिखा है, १२३।
বাংলা ভাষা।
ภาษาไทยไม่มีช่องว่าง ๑๒๓
你好，世界！今天是二〇二六年。
東京タワーは、３３３メートルです。「はい」と言った。
안녕하세요, 세계! 반갑습니다.
ພາສາລາວ
မြန်မာစာ
Tiếng Việt có nhiều dấu.
Türkçe: ıİğĞşŞ çok güzel
emoji 🎙️ and 👨‍👩‍👧 family, flags 🇫🇷
tabs\tand  many   spaces
zero-width\u200bspace and no-break\u00a0space
double double, triple point, and and, point five, five point, oh oh seven
hundred hundreds thousand and one two hundredth thirtieth twelfths
a hundred one hundred and twenty three million four hundred and fifty six thousand seven hundred and eighty nine
three point one four one five nine; one point two million; point zero five
twenty five hundred; fifteen hundred; two thousand and six; two thousand six; twenty oh six
one two three four five six seven eight nine ten eleven twelve
fifty fifty, one on one, two by four, three to one
a million dollars, a billion euros, five hundred pounds sterling, ninety nine cents
"""

NUMBERS = """\
zero oh o one two three five nine ten eleven fifteen nineteen twenty thirty ninety hundred thousand million billions
first third fifth twelfth twentieth hundredth millions ones sixes sixties nineties and a half point double triple per
cent percent minus negative plus positive dollar dollars pound cents euro 0 1 7 10 12 100 1,000 3.5 2.5.1 $ $5 €20
£3.50 ¢7 -4 10% 4th 00 the cat Mr. it's colour um [x] (y) ' 's .5 5. $0.05
"""


def main() -> None:
    """Write each text in all three forms, the numbers in English alone."""
    english, basic, letters = EnglishTextNormalizer(), BasicTextNormalizer(), BasicTextNormalizer(split_letters=True)
    chance = random.Random(0)
    numbers = [" ".join(chance.choices(NUMBERS.split(), k=chance.randint(2, 9))) for _ in range(300)]
    recorded = {
        "texts": [[text, english(text), basic(text), letters(text)] for text in TEXTS.splitlines()],
        "numbers": [[text, english(text)] for text in numbers],
    }
    target = Path(__file__).with_name("normalisers.json")
    parts = [f'"openai-whisper": {json.dumps(version("openai-whisper"))}']
    for name, rows in recorded.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        parts.append(f'"{name}": [\n{lines}\n]')
    target.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
