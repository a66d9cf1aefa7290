"""Manual pages against the options: short names, choices, limits and defaults, from the page to the code and back."""

from __future__ import annotations

import re
import typing
from typing import Any

import pytest
from executable import REPOSITORY

from advkit.attacks.methods import NAMES
from advkit.commands.adapt_config import AdaptConfig
from advkit.commands.adv_pretrain_config import AdvPretrainConfig
from advkit.commands.attack_options import AttackConfig
from advkit.commands.config import Config, option_fields, spelt
from advkit.commands.domain_distance_config import DistanceConfig
from advkit.commands.evaluate import EvaluateConfig
from advkit.commands.evolve_config import EvolveConfig
from advkit.commands.matrix_config import MatrixConfig
from advkit.commands.train_config import TrainConfig
from advkit.commands.visualize import AttentionConfig
from advkit.commands.visualize_features import FeaturesConfig

CONFIGS: dict[str, type[Config]] = {
    "train": TrainConfig,
    "adv-pretrain": AdvPretrainConfig,
    "adapt": AdaptConfig,
    "attack": AttackConfig,
    "transfer-matrix": MatrixConfig,
    "evolve": EvolveConfig,
    "domain-distance": DistanceConfig,
    "evaluate": EvaluateConfig,
    "visualize attention": AttentionConfig,
    "visualize features": FeaturesConfig,
}
NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?(?:/\d+)?"


def items(tool: str) -> dict[str, list[tuple[str, str]]]:
    """By long name: heading and text of every item of the page that is an option's."""
    text = (REPOSITORY / "man" / f"advkit-{tool.split()[0]}.1").read_text().split(".Sh EXAMPLES")[0]
    found: dict[str, list[tuple[str, str]]] = {}
    for block in re.split(r"^\.It ", text, flags=re.M)[1:]:
        head, _, body = block.partition("\n")
        for name in re.findall(r"(?:Fl|,) -([a-z][a-z0-9-]*)", head) if head.startswith("Fl ") else []:
            found.setdefault(f"--{name}", []).append((head, body))
    return found


def options(tool: str) -> list[tuple[str, Any, Any, Any]]:
    """(long name, type, default, typer's record) of each option."""
    config = CONFIGS[tool]
    hints = typing.get_type_hints(config, include_extras=True)
    found = [
        (spelt(config, f.name), hints[f.name].__origin__, f.default, hints[f.name].__metadata__[0])
        for f in option_fields(config)
    ]
    return [row for row in found if hasattr(row[3], "is_eager") and type(row[3]).__name__ == "OptionInfo"]


def choices_of(kind: Any) -> set[str]:
    """Values of a Literal, or of a Literal that may be None."""
    inner = [kind, *typing.get_args(kind)]
    return {value for one in inner if typing.get_origin(one) is typing.Literal for value in typing.get_args(one)}


@pytest.mark.parametrize("tool", CONFIGS)
def test_every_option_has_one_item(tool: str) -> None:
    assert {name: len(found) for name, found in items(tool).items() if len(found) > 1} == {}


@pytest.mark.parametrize("tool", CONFIGS)
def test_short_names_are_those_of_the_page(tool: str) -> None:
    page = {name: set(re.findall(r"Fl ([a-z])\b", head)) for name, found in items(tool).items() for head, _ in found}
    for name, _, _, info in options(tool):
        declared = [text for text in (info.default, *(info.param_decls or ())) if isinstance(text, str)]
        assert page[name] == {text[1] for text in declared if re.fullmatch(r"-[a-z]", text)}, name


@pytest.mark.parametrize("tool", CONFIGS)
def test_choices_are_those_of_the_page(tool: str) -> None:
    seen = 0
    for name, kind, _, _ in options(tool):
        if choices := choices_of(kind):
            told = set(re.findall(r"^\.Cm (\S+)", items(tool)[name][0][1], re.M))
            assert choices <= told, name
            assert told - choices <= set(NAMES), name  # a method may be named among them
            seen += 1
    assert seen or tool in ("evaluate", "domain-distance")


@pytest.mark.parametrize("tool", CONFIGS)
def test_upper_limits_stand_in_the_page(tool: str) -> None:
    for name, _, _, info in options(tool):
        if info.max is not None:
            assert re.search(rf"\b{info.max} at most|at most {info.max}\b", items(tool)[name][0][1]), name


def claimed(name: str, head: str, body: str) -> list[float]:
    """Numbers that an item calls the default of ``name``, which may share it with another option."""
    told = " ".join(body.split())
    found = re.search(rf"\bdefaults? (?:is|are) ({NUMBER})(?:(?: for \w+,| and) ({NUMBER}))?", told)
    numbers = [value(text) for text in found.groups() if text] if found else []
    if "defaults are" in told:
        names = re.findall(r"-([a-z][a-z0-9-]*)", head)
        return [numbers[names.index(name.removeprefix("--"))]]
    return numbers


def value(text: str) -> float:
    """Of a number or a fraction."""
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


def test_claimed() -> None:
    assert claimed("--lr", "Fl -lr", "The default is 0.1 for sgd, 0.002 for adamw.") == [0.1, 0.002]
    assert claimed("--b", "Fl -a , Fl -b", "Text; the defaults are 1 and 2.5.") == [2.5]
    assert claimed("--eps", "Fl -eps", "Other: 3.\nThe default\nis 8/255.") == [8 / 255]
    assert claimed("--eps", "Fl -eps", "As 8/255 (the default) or 0.03.") == []


@pytest.mark.parametrize("tool", CONFIGS)
def test_a_default_in_the_page_is_one_of_the_code(tool: str) -> None:
    """The other way round is in test_man.py."""
    for name, _, default, info in options(tool):
        bracket = re.search(r"\[([^]]*)\]\.?$", info.help or "")
        text = str(default) if default not in (None, "", ()) else bracket[1] if bracket else ""
        meant = {value(number) for number in re.findall(NUMBER, text)}
        for head, body in items(tool)[name]:
            assert set(claimed(name, head, body)) <= meant, name
