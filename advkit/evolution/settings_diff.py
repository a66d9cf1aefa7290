"""What differs between the settings of two runs of ``evolve``, in terms of its options."""

from __future__ import annotations

from typing import Any

# Where the settings say what an option said. What else they hold follows from these.
_OPTIONS = {
    "search.seed": "--seed",
    "data_seed": "--seed",
    "reference": "R",
    "data": "--data or --limit",
    "like": "--recipe-from",
    "begin_with": "--begin-with",
    "attacks.method": "--method",
    "attacks.eps": "--eps",
    "attacks.norm": "--norm",
    "attacks.steps": "--steps",
    "candidate_images": "--candidate-images",
    "candidate_epochs": "--candidate-epochs",
    "validation_images": "--validation-images",
    "recipe.epochs": "--epochs",
    "recipe.misalign.weight": "--misalign-weight",
    "recipe.misalign.smoothness": "--smoothness-weight",
    "search.search": "--search",
    "search.objective": "--objective",
    "search.ageing": "--ageing",
    "search.inherit": "--inherit",
    "search.budget": "--budget",
    "search.population": "--population",
    "search.offspring": "--offspring",
    "search.rungs": "--rungs",
    "search.accuracy_floor": "--accuracy-floor",
    "search.limits.max_parameters": "--max-parameters",
    "search.limits.max_multiply_adds": "--max-multiply-adds",
    "threads": "--threads",
    "device": "--device",
    "versions.advkit": "advkit",
    "versions.torch": "torch",
}
_LED = {"data_seed": ("data",), "like": ("recipe.*",)}  # changes that the change of another option brings along


def settings_diff(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Phrases such as ``--seed 0, not 1``: what the run ``before`` was given and this one is not, in that order.

    Both are settings as :func:`advkit.evolution.settings.run_settings` makes them. Where no option tells the
    difference the names of the settings do.
    """
    one, other = flat(before), flat(now)
    differing = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    led = {name for leader, names in _LED.items() if leader in differing for name in names}
    told = [name for name in _OPTIONS if name in differing and not led & {name, f"{name.partition('.')[0]}.*"}]
    phrases = [_phrase(_OPTIONS[name], one.get(name), other.get(name)) for name in told]
    return list(dict.fromkeys(phrases)) or sorted(differing)


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted names. The attacks of a run differ in their methods alone."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "attacks" and value:
            value = {**value[0], "method": " and ".join(str(attack["method"]) for attack in value)}
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": leaf for inner, leaf in flat(value).items()}
        else:
            found[name] = value
    return found


def _phrase(option: str, before: Any, now: Any) -> str:
    """Both values, where they are short enough to tell anything."""
    if before is None or before is False:
        return f"no {option}"
    if before is True:
        return option
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in (before, now)]
    if max(map(len, texts)) > 24:
        return f"another {option}"
    return f"{option} {texts[0]}, not {texts[1]}"
