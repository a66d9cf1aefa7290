"""Model names short enough for an axis, and still told apart."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_FILES = re.compile(r"\.(safetensors|pt|pth|th|png|npz)$")
_BREAKS = re.compile(r"(?<=[-_/@:#+,. ])")


def _bare(name: str) -> str:
    """``runs/a/r.safetensors`` becomes ``r``; ``timm/resnet18@w/x.pt`` becomes ``resnet18@x``."""
    return "@".join(_FILES.sub("", part.rstrip("/").rsplit("/", 1)[-1]) or part for part in name.split("@"))


def _wrapped(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` characters, broken after punctuation where that is possible."""
    lines = [""]
    for piece in _BREAKS.split(text):
        while piece:
            room = width - len(lines[-1])
            if len(piece.rstrip()) <= room:
                lines[-1] += piece
                piece = ""
            elif lines[-1] and len(piece) <= width:
                lines.append("")
            else:
                lines[-1] += piece[:room]
                piece = piece[room:]
                lines.append("")
    return [line.strip() for line in lines if line.strip()]


def ellipsize(text: str, width: int, lines: int) -> str:
    """``text`` in at most ``lines`` lines of ``width`` characters; an ellipsis in its middle where needed."""
    keep = len(text)
    while len(_wrapped(text, width)) > lines:
        keep -= 1
        whole = text.replace("…", "", 1) if "…" in text else text
        head = (keep + 1) // 2
        tail = keep - head
        text = whole[:head] + "…" + whole[len(whole) - tail :]
    return "\n".join(_wrapped(text, width))


def display_names(names: Sequence[str], *, width: int, lines: int) -> list[str]:
    """``names`` for the axis of a figure.

    Directories and file suffixes go where the names stay different without them, long names are wrapped after
    punctuation, and what is still too long loses its middle. Different names stay different: those that would look
    the same are numbered.

    Args:
        names: as the user wrote them; equal names give equal results.
        width: characters in a line, at least 4.
        lines: lines at most, at least 1.
    """
    distinct = list(dict.fromkeys(names))
    bare = {name: _bare(name) for name in distinct}
    used = Counter(bare.values())
    chosen = {name: bare[name] if used[bare[name]] == 1 else name for name in distinct}
    fitted = {name: ellipsize(chosen[name], width, lines) for name in distinct}
    clashes = Counter(fitted.values())
    seen: Counter[str] = Counter()
    for name in distinct:
        text = fitted[name]
        if clashes[text] > 1:
            seen[text] += 1
            fitted[name] = ellipsize(chosen[name], width, lines - 1 or 1) + f" #{seen[text]}"
    return [fitted[name] for name in names]


def without_common_start(names: Sequence[str]) -> list[str]:
    """``names`` with an ellipsis for what all of two or more begin with, up to punctuation; none is left empty."""
    starts = [{name[: found.end()] for found in _BREAKS.finditer(name) if found.end() < len(name)} for name in names]
    common = max(set.intersection(*starts), key=len, default="") if len(names) > 1 else ""
    return [f"…{name[len(common) :]}" if len(common) > 1 else name for name in names]


def letter(position: int) -> str:
    """``A`` for the first of a figure's models, ``A1`` after ``Z``."""
    return string.ascii_uppercase[position % 26] + (str(position // 26) if position >= 26 else "")
