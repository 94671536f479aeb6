"""Texts that break careless code: what a string on the wire may hold, short of a lone surrogate."""

from __future__ import annotations

import random

HOSTILE: dict[str, str] = {
    "empty": "",
    "emoji": "👩‍👩‍👧‍👦 🏴‍☠️ 🇺🇳 👍🏿 ❤️‍🔥",
    "line separators": "a\u2028b\u2029c\u0085d\u000be\u000cf",
    "newlines": "one\ntwo\r\nthree\rfour\n\n",
    "every control character": "".join(map(chr, range(0x20))) + "\x7f" + "".join(map(chr, range(0x80, 0xA0))),
    "nul": "before\x00after",
    "quotes": '"double" \'single\' `back` \\" \\\\ \\',
    "looks like escapes": r"\n \u0000 \ud83d\ude00 \x00 %0A &#10;",
    "looks like frames": '"}}\n{"jsonrpc":"2.0","id":0,"method":"ping"}\r\ndata: x\n\nevent: message\n',
    "right to left": "שלום \u202eevil\u202c \u2067عربى\u2069 \u200f",
    "combining": "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞ é é",
    "invisible": "\ufeffbom\ufeff zero\u200bwidth \u00ad soft \u2060 joiner \u3164",
    "edges of planes": "\ud7ff\ue000\uffff\U00010000\U0010ffff\ufffd\ufffe\ufdd0",
    "white space": "\t  \u00a0\u1680\u2000\u200a\u202f\u205f\u3000 ",
    "scripts": "日本語 한국어 ไทย हिन्दी ελληνικά Кириллица 𓀀𓂀 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "numbers as text": "9007199254740993 1e400 -0 1.0 NaN Infinity 0x10",
}


def long_text(length: int, seed: int) -> str:
    """`length` characters from all the texts above; the same seed gives the same text."""
    alphabet = "".join(HOSTILE.values()) + "abcdefghijklmnopqrstuvwxyz 0123456789" * 8
    return "".join(random.Random(seed).choices(alphabet, k=length))


def text_of_bytes(size: int, seed: int) -> str:
    """A text whose UTF-8 form is `size` bytes long, to within one character of four bytes."""
    unit = long_text(4096, seed)
    whole, rest = divmod(size, len(unit.encode()))
    return unit * whole + unit.encode()[:rest].decode(errors="ignore")
