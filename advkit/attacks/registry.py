"""All methods by name: a new attack or modifier is one file and one line here.

Names are known without importing anything; what stands behind one is imported when it is asked for.
"""

from __future__ import annotations

import importlib

from advkit.attacks.attack import Attack, Modifier

ATTACKS: dict[str, str] = {
    "fgsm": "advkit.attacks.iterative:FGSM",
    "pgd": "advkit.attacks.iterative:PGD",
    "iterative": "advkit.attacks.iterative:ITERATIVE",
    "apgd-ce": "advkit.attacks.apgd:APGD_CE",
    "apgd-dlr": "advkit.attacks.apgd:APGD_DLR",
    "apgd-t": "advkit.attacks.apgd:APGD_T",
    "fab-t": "advkit.attacks.fab:FAB_T",
    "autoattack": "advkit.attacks.autoattack:AUTOATTACK",
    "square": "advkit.attacks.square:SQUARE",
    "fmn": "advkit.attacks.fmn:FMN",
    "ddn": "advkit.attacks.ddn:DDN",
    "cw": "advkit.attacks.cw:CW",
    "noise": "advkit.attacks.controls:NOISE",
    "identity": "advkit.attacks.controls:IDENTITY",
}
MODIFIERS: dict[str, str] = {
    "mi": "advkit.attacks.mi:MI",
    "ni": "advkit.attacks.ni:NI",
    "di": "advkit.attacks.di:DI",
    "ti": "advkit.attacks.ti:TI",
    "si": "advkit.attacks.si:SI",
    "vmi": "advkit.attacks.vmi:VMI",
    "ssa": "advkit.attacks.ssa:SSA",
    "bsr": "advkit.attacks.bsr:BSR",
    "admix": "advkit.attacks.admix:ADMIX",
    "sgm": "advkit.attacks.sgm:SGM",
}


def _found(place: str) -> object:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def attack_named(name: str) -> Attack:
    """The attack called ``name``; a KeyError when there is none."""
    found = _found(ATTACKS[name])
    assert isinstance(found, Attack)
    return found


def modifier_named(name: str) -> Modifier:
    """The modifier called ``name``; a KeyError when there is none."""
    found = _found(MODIFIERS[name])
    assert isinstance(found, Modifier)
    return found
