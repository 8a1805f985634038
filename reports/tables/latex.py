r"""Any text as LaTeX that prints it as it stands, in plain ASCII: no engine, encoding or font matters.

Letters with accents become accent commands, Greek and the usual signs become mathematics; what neither has
becomes ``\dfkdchar{4E2D}``, which prints the code point until a document redefines it.
"""

from __future__ import annotations

import re
import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedblright{}", "`": r"\textasciigrave{}",
}  # fmt: skip
#: accents that the oldest font encoding has, by combining character
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0304": "=", "\u0307": ".",
    "\u0306": "u", "\u030c": "v", "\u030b": "H", "\u030a": "r", "\u0327": "c", "\u0323": "d", "\u0331": "b",
}  # fmt: skip
_LETTERS = {
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "ł": r"\l{}", "Ł": r"\L{}", "\u0131": r"\i{}",
    "\u2018": "`", "\u2019": "'", "\u201c": r"\textquotedblleft{}", "\u201d": r"\textquotedblright{}",
    "\u2013": r"\textendash{}", "\u2014": r"\textemdash{}",
    "…": r"\ldots{}", "§": r"\S{}", "©": r"\copyright{}",
}  # fmt: skip
_GREEK = (
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi o pi rho varsigma sigma tau "
    "upsilon varphi chi psi omega"
).split()
#: the dash is no letter: no code point stands there
_CAPITALS = "A B Gamma Delta E Z H Theta I K Lambda M N Xi O Pi P - Sigma T Upsilon Phi X Psi Omega".split()
_MATHS = {
    "±": r"\pm", "\u00d7": r"\times", "·": r"\cdot", "\u2212": "-", "→": r"\to", "←": r"\leftarrow",
    "↔": r"\leftrightarrow", "⇒": r"\Rightarrow", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx",
    "≡": r"\equiv", "∞": r"\infty", "√": r"\surd", "°": r"^\circ", "µ": r"\mu", "²": "^2", "³": "^3",
    "¹": "^1", "½": r"\frac12", "∑": r"\sum", "∏": r"\prod", "∂": r"\partial", "∇": r"\nabla", "∈": r"\in",
    "∝": r"\propto", "«": r"\ll", "»": r"\gg", "ϵ": r"\epsilon", "ϕ": r"\phi", "\u2113": r"\ell",
    "\u2032": "'", "∥": r"\|", "†": r"\dagger", "‡": r"\ddagger", "•": r"\bullet",
}  # fmt: skip
for _first, _names in (("α", _GREEK), ("Α", _CAPITALS)):  # noqa: RUF001 - the second is Greek
    for _i, _name in enumerate(_names):
        _sign = _name if len(_name) == 1 else rf"\{_name}"
        _MATHS[chr(ord(_first) + _i)] = rf"\mathrm{{{_sign}}}" if len(_name) == 1 else _sign


def escape(text: str) -> str:
    """Text as LaTeX in ASCII.

    White space of any kind is one blank, characters that cannot be seen are dropped, and nothing becomes a
    ligature (``--`` stays two hyphens).
    """
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    made = "".join(_sign_of(c) for c in plain if c == " " or not unicodedata.category(c).startswith("C"))
    return re.sub(r"-(?=-)|'(?=')|(?<=[?!])(?=`)", lambda found: found[0] + "{}", made)


def _sign_of(c: str) -> str:
    if c in _SPECIAL:
        return _SPECIAL[c]
    if c.isascii():
        return c
    if c in _LETTERS:
        return _LETTERS[c]
    if c in _MATHS:
        return rf"\ensuremath{{{_MATHS[c]}}}"
    base, *marks = list(unicodedata.normalize("NFD", c))
    if base.isascii() and marks and all(m in _ACCENTS for m in marks):
        letter = {"i": r"\i", "j": r"\j"}.get(base, base) if _ACCENTS[marks[0]] not in "cdb" else base
        for mark in marks:
            letter = rf"\{_ACCENTS[mark]}{{{letter}}}"
        return letter
    return rf"\dfkdchar{{{ord(c):04X}}}"
