"""One frozen Config for each tool: what typer makes of it, and that every default stands once."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from executable import REPOSITORY

from advkit.commands.adapt_config import AdaptConfig
from advkit.commands.adv_pretrain_config import AdvPretrainConfig
from advkit.commands.attack_options import AttackConfig
from advkit.commands.config import Config, command, option_fields, spelt
from advkit.commands.domain_distance_config import DistanceConfig
from advkit.commands.evaluate import EvaluateConfig
from advkit.commands.evolve_config import EvolveConfig
from advkit.commands.matrix_config import MatrixConfig
from advkit.commands.train_config import TrainConfig
from advkit.commands.visualize import AttentionConfig
from advkit.commands.visualize_features import FeaturesConfig
from advkit.files.errors import InputError

CONFIGS = (
    TrainConfig,
    AdvPretrainConfig,
    AdaptConfig,
    AttackConfig,
    MatrixConfig,
    EvolveConfig,
    DistanceConfig,
    EvaluateConfig,
    AttentionConfig,
    FeaturesConfig,
)


@dataclass(frozen=True, kw_only=True)
class Shared(Config):
    """Of several tools."""

    seed: Annotated[int, typer.Option(help="A number.")] = 0


@dataclass(frozen=True, kw_only=True)
class Toy(Shared):
    """Of one tool."""

    models: Annotated[tuple[str, ...], typer.Argument(metavar="MODEL...")]
    kind: Annotated[Literal["a", "b"], typer.Option("--sort", help="One of two.")] = "a"
    sets: Annotated[tuple[Path, ...], typer.Option(help="Several.")] = ()
    on: Annotated[bool | None, typer.Option("--on/--off")] = None


@pytest.fixture
def parse() -> Any:
    """A command line to the Toy that it makes."""
    made: list[Toy] = []

    def run(config: Toy) -> int:
        """What the help says."""
        made.append(config)
        return 3

    def call(*arguments: str) -> Toy:
        app = typer.Typer(rich_markup_mode=None)
        app.command()(command(Toy, run))
        assert app(list(arguments), standalone_mode=False) == 3
        return made.pop()

    return call


def test_fields_become_options(parse: Any) -> None:
    assert parse("m") == Toy(models=("m",))
    found = parse("m", "n", "--sort", "b", "--sets", "x", "--sets", "y", "--off", "--seed", "7")
    assert found == Toy(models=("m", "n"), kind="b", sets=(Path("x"), Path("y")), on=False, seed=7)


def test_what_the_user_said_is_known_whatever_its_value(parse: Any) -> None:
    assert parse("m").explicit == {"models"}
    said = parse("m", "--seed", "0", "--sort", "a")
    assert said == parse("m")
    assert said.explicit == {"models", "seed", "kind"}
    parse("m").refuse(["seed", "kind"], "does nothing")
    with pytest.raises(InputError, match=r"^--sort: does nothing$"):
        said.refuse(["kind"], "does nothing")


def test_other_values_than_the_choices_are_refused(parse: Any) -> None:
    with pytest.raises(Exception, match=r"'c' is not one of 'a', 'b'"):
        parse("m", "--sort", "c")


def test_names_on_the_command_line() -> None:
    assert [spelt(Toy, name) for name in ("seed", "kind", "on")] == ["--seed", "--sort", "--on"]
    assert [field.name for field in option_fields(Toy)] == ["models", "kind", "sets", "on", "seed"], "own ones first"


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_is_frozen_down_to_its_values(config: type[Config]) -> None:
    needed = {field.name: "x" for field in option_fields(config) if field.default is dataclasses.MISSING}
    made = config(**needed)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.explicit = frozenset({"seed"})  # type: ignore[misc]
    hash(made)  # neither lists nor dicts in it


@pytest.mark.parametrize("config", CONFIGS)
def test_every_default_stands_once(config: type[Config]) -> None:
    """No two classes of a tool's options declare the same field."""
    declared = [name for base in config.__mro__ for name in vars(base).get("__annotations__", {})]
    assert sorted(declared) == sorted(set(declared))


def literals(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """Names of annotated fields whose default is written out."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            yield node.target.id, node.value.value


def test_no_two_tools_write_the_same_default_out() -> None:
    """A field of two tools is inherited, or takes the other's default by name: but for what differs in meaning."""
    found: dict[str, list[Any]] = {}
    for path in sorted((REPOSITORY / "advkit/commands").glob("*.py")):
        for name, value in literals(ast.parse(path.read_text())):
            if value not in (None, "", True, False):
                found.setdefault(name, []).append(value)
    twice = {name: values for name, values in found.items() if len(values) != len(set(values))}
    # Images in a training step, which decide the result; images looked at at a time, which don't. The method of an
    # attack; the method of a training.
    assert twice.keys() == {"batch_size", "method"}


def test_nothing_compares_with_a_default() -> None:
    """Whether the user said something is asked of the parser: functions of the tools take the whole Config."""
    for config in CONFIGS:
        module = inspect.getmodule(config)
        assert module is not None
        assert "locals()" not in inspect.getsource(module)
