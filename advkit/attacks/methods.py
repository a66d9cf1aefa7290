"""``--method`` as people write it: ``pgd``, ``mi,di,ti``, ``square:queries=2000``, ``mi:decay=0.9,di``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from advkit.attacks.attack import Attack, Modifier, Parameter, Value
from advkit.attacks.registry import ATTACKS, MODIFIERS, attack_named, modifier_named
from advkit.files.errors import InputError

_UNNAMED = "iterative"  # what modifiers alone modify: the plain iterative method
_ORDER = ("fgsm", "pgd", *MODIFIERS)  # of the canonical spelling
NAMES = tuple(name for name in (*ATTACKS, *MODIFIERS) if name != _UNNAMED)


@dataclass(frozen=True)
class Method:
    """A parsed method.

    Attributes:
        name: canonical spelling, parameters that are not the default included.
        attack: the attack.
        modifiers: what modifies it.
        parameters: by attack or modifier, all own parameters of all parts.
    """

    name: str
    attack: Attack
    modifiers: tuple[Modifier, ...] = ()
    parameters: dict[str, dict[str, Value]] = field(default_factory=dict)

    def __contains__(self, part: str) -> bool:
        return part == self.attack.name or any(part == modifier.name for modifier in self.modifiers)

    def of(self, part: str) -> dict[str, Value]:
        """The own parameters of ``part``."""
        return self.parameters.get(part, {})

    def hooked(self, hook: str) -> list[Modifier]:
        """The modifiers that work at ``hook``."""
        return [modifier for modifier in self.modifiers if modifier.hook == hook]

    @property
    def gradient_off_iterate(self) -> bool:
        """Whether gradients are taken beside the current point, so that its own logits cost a pass of their own."""
        return any(modifier.hook in ("look_ahead", "mix", "copies", "view") for modifier in self.modifiers)

    @property
    def copies(self) -> int:
        """How many views of an image a gradient is the mean of."""
        return math.prod(int(self.of(one.name).get(one.copies, 1) or 1) for one in self.modifiers if one.copies)

    def numbered(self, number: int) -> dict[str, int]:
        """Which of its own copies each modifier makes for view ``number`` of :attr:`copies`."""
        found = {}
        for one in self.modifiers:
            if one.copies:
                count = int(self.of(one.name).get(one.copies, 1) or 1)
                number, found[one.name] = divmod(number, count)
        return found


def parse_method(text: str) -> Method:
    """``mi,di:probability=0.7`` as a :class:`Method`.

    Raises:
        InputError: unknown names or parameters, values out of range, combinations without meaning.
    """
    said: dict[str, dict[str, str]] = {}
    for part in (part.strip() for part in text.split(",")):
        if part:
            name, *settings = part.split(":")
            name = name.strip().lower()
            if name in said:
                raise InputError(f"--method {text}: {name} stands there twice; drop one")
            said[name] = dict(_pair(text, name, setting) for setting in settings)
    _check_names(text, said)
    for name in list(said):
        other = modifier_named(name).brings if name in MODIFIERS else None
        if other is not None:  # ni looks ahead along mi's momentum: what is said of one holds for both
            shared = modifier_named(name).parameters.keys() & modifier_named(other).parameters.keys()
            both = {**said.get(other, {}), **{key: said[name][key] for key in said[name].keys() & shared}}
            said[other] = both
            said[name] = said[name] | {key: both[key] for key in both.keys() & shared}
    attack = attack_named(next((name for name in said if name in ATTACKS), _UNNAMED))
    modifiers = tuple(modifier_named(name) for name in MODIFIERS if name in said)
    parameters: dict[str, dict[str, Value]] = {}
    parts: tuple[Attack | Modifier, ...] = (attack, *modifiers)
    for one in parts:
        own = _values(text, one, said.get(one.name, {}))
        if own:
            parameters[one.name] = own
    return Method(_spelling(attack, modifiers, parameters), attack, modifiers, parameters)


def _pair(text: str, name: str, setting: str) -> tuple[str, str]:
    key, equals, value = setting.partition("=")
    if not equals:
        raise InputError(f"--method {text}: {name}:{setting}: write {name}:PARAMETER=VALUE")
    return key.strip().lower().replace("-", "_"), value.strip()


def _check_names(text: str, said: Mapping[str, object]) -> None:
    alone = [name for name in said if name in ATTACKS and name != _UNNAMED and not attack_named(name).base]
    unknown = [name for name in said if name not in NAMES]
    if unknown or not said or (alone and len(said) > 1):
        bad = unknown[0] if unknown else alone[0] if alone else text
        reason = "stands alone" if bad in alone else "no such method"
        if "=" in bad:
            raise InputError(f"--method {text}: {bad}: no method; parameters stand behind colons: cw:steps=9:rate=1")
        known = ", ".join(NAMES)
        raise InputError(f"--method {text}: {bad!r}: {reason}; known: {known}; compose with commas: mi,di,ti")
    if "fgsm" in said and set(said) & {"pgd", "mi", "ni", "vmi"}:
        raise InputError(f"--method {text}: fgsm takes one step, where pgd, mi, ni and vmi change nothing; drop one")


def _values(text: str, one: Attack | Modifier, said: Mapping[str, str]) -> dict[str, Value]:
    for name in said:
        if name not in one.parameters:
            known = ", ".join(one.parameters) or "none"
            raise InputError(f"--method {text}: {one.name} has no parameter {name!r}; its own: {known}")
    return {
        name: _value(text, one.name, parameter, said[name]) if name in said else parameter.default
        for name, parameter in one.parameters.items()
    }


def _value(text: str, owner: str, parameter: Parameter, said: str) -> Value:
    try:
        value: Value = int(said) if parameter.whole else float(said)
    except ValueError:
        value = None
    if value is None or not parameter.low <= float(value) <= parameter.high:
        kind = "a whole number" if parameter.whole else "a number"
        limits = f"{parameter.low:g} to {parameter.high:g}"
        raise InputError(f"--method {text}: {owner}:{parameter.name}={said}: {kind} from {limits} is needed")
    if owner == "ti" and parameter.name == "kernel" and int(value) % 2 == 0:
        raise InputError(f"--method {text}: ti:kernel={said}: an odd width is needed")
    return value


def _spelling(attack: Attack, modifiers: tuple[Modifier, ...], parameters: Mapping[str, dict[str, Value]]) -> str:
    brought = {modifier.brings: parameters.get(modifier.name) for modifier in modifiers if modifier.name == "ni"}
    parts = []
    ones: list[Attack | Modifier] = [attack, *modifiers]
    for one in sorted(ones, key=lambda one: _ORDER.index(one.name) if one.name in _ORDER else -1):
        if one.name == _UNNAMED:
            continue
        told = [
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in parameters.get(one.name, {}).items()
            if value != one.parameters[name].default and parameters.get(one.name) != brought.get(one.name)
        ]
        parts.append(":".join([one.name, *told]))
    return ",".join(parts)


def methods_table() -> list[str]:
    """Every method with its paper, norms and own parameters: what ``--methods`` prints."""
    lines = []
    for name in NAMES:
        one: Attack | Modifier = attack_named(name) if name in ATTACKS else modifier_named(name)
        lines.append(f"{name:10} {one.summary}")
        facts = []
        if isinstance(one, Attack):
            facts.append(", ".join({"linf": "Linf", "l2": "L2", "l1": "L1"}[norm] for norm in one.norms))
            facts += [] if one.gradients else ["no gradients"]
            facts += ["minimal norm"] if one.minimal_norm else []
        facts += [
            f"{p.name}={'by image' if p.default is None else format(p.default, 'g')}" for p in one.parameters.values()
        ]
        if facts:
            lines.append(f"{'':10} {'; '.join(facts)}")
    return lines
