"""Attack methods by name: modifiers of one loop, and two controls.

``--method mi,di,ti`` composes. A new modifier is one line in :data:`MODIFIERS` and its place in the loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from advkit.files.errors import InputError

MODIFIERS: dict[str, str] = {
    "fgsm": "one step of size eps (Goodfellow et al. 2015)",
    "pgd": "steps of 2.5 eps/steps from a random start (Madry et al. 2018)",
    "mi": "momentum over the gradients (Dong et al. 2018)",
    "ni": "Nesterov's look-ahead, with momentum (Lin et al. 2020)",
    "di": "random resize and pad before each gradient (Xie et al. 2019)",
    "ti": "gradients smoothed by a Gaussian (Dong et al. 2019)",
    "si": "gradients averaged over images scaled by powers of 1/2 (Lin et al. 2020)",
}
CONTROLS: dict[str, str] = {
    "noise": "random signs times eps, or a random direction of length eps: no gradient at all",
    "identity": "the clean images",
}


@dataclass(frozen=True)
class Method:
    """A parsed method.

    Attributes:
        name: canonical spelling, modifiers in the order of :data:`MODIFIERS`.
        modifiers: subset of :data:`MODIFIERS`; empty for a control.
        control: ``noise``, ``identity`` or None.
    """

    name: str
    modifiers: frozenset[str]
    control: str | None = None

    def __contains__(self, modifier: str) -> bool:
        return modifier in self.modifiers

    @property
    def gradient_off_iterate(self) -> bool:
        """Whether gradients are taken beside the current point, so that its own logits cost a pass of their own."""
        return bool(self.modifiers & {"ni", "di", "si"})


def parse_method(text: str) -> Method:
    """``mi,di,ti`` as a :class:`Method`.

    Raises:
        InputError: unknown names, combinations without meaning.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if len(names) == 1 and names[0] in CONTROLS:
        return Method(names[0], frozenset(), names[0])
    unknown = [name for name in names if name not in MODIFIERS]
    if unknown or not names:
        known = ", ".join([*MODIFIERS, *CONTROLS])
        bad = unknown[0] if unknown else text
        reason = "stands alone" if bad in CONTROLS else "no such method"
        raise InputError(f"--method {text}: {bad!r}: {reason}; known: {known}; compose with commas: mi,di,ti")
    found = set(names)
    if "fgsm" in found and found & {"pgd", "mi", "ni"}:
        raise InputError(f"--method {text}: fgsm takes one step, where pgd, mi and ni change nothing; drop one")
    if "ni" in found:
        found.add("mi")  # the look-ahead goes along the momentum
    return Method(",".join(name for name in MODIFIERS if name in found), frozenset(found))
