"""One frozen Config for each tool: its annotated fields are the options, and each default stands there once."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer

from advkit.files.errors import InputError
from advkit.files.streams import stdout_for_results

ConfigT = TypeVar("ConfigT", bound="Config")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every tool's options have in common.

    A field is ``name: Annotated[TYPE, typer.Option(...)] = DEFAULT``; ``Literal[...]`` makes a choice and
    ``tuple[TYPE, ...]`` an option that may be repeated.

    Attributes:
        explicit: names of the fields that the user set, with whatever value.
    """

    explicit: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)

    def refuse(self, names: typing.Iterable[str], why: str) -> None:
        """An option that would do nothing is refused, whatever its value.

        Args:
            names: fields that have no effect on this run.
            why: what follows the option's name.

        Raises:
            InputError: the user set one of them.
        """
        for name in names:
            if name in self.explicit:
                raise InputError(f"{spelt(type(self), name)}: {why}")


def option_fields(config: type[Config]) -> list[dataclasses.Field[Any]]:
    """The options of ``config``: its own first, then those that it shares with other tools."""
    fields = {field.name: field for field in dataclasses.fields(config) if field.name != "explicit"}
    order = [name for base in config.__mro__ for name in inspect.get_annotations(base) if name in fields]
    return [fields[name] for name in dict.fromkeys(order)]


def spelt(config: type[Config], name: str) -> str:
    """``--step-size``, or whatever the field ``name`` is called on the command line."""
    info = typing.get_type_hints(config, include_extras=True)[name].__metadata__[0]
    for declared in (info.default, *(info.param_decls or ())):  # typer keeps the first name as a default
        if isinstance(declared, str) and declared.startswith("--"):
            return declared.partition("/")[0]
    return f"--{name.replace('_', '-')}"


def command(config: type[ConfigT], run: Callable[[ConfigT], int]) -> Callable[..., int]:
    """A function that typer makes a command of: its parameters are the fields of ``config``, its text is ``run``'s.

    Args:
        config: the tool's options.
        run: what to do with them; returns the exit status.
    """
    fields = option_fields(config)
    hints = typing.get_type_hints(config, include_extras=True)

    def call(ctx: typer.Context, **values: Any) -> int:
        explicit = set()
        for field in fields:
            source = ctx.get_parameter_source(field.name)
            if source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP"):
                explicit.add(field.name)
            if _repeats(hints[field.name]):
                values[field.name] = tuple(values[field.name] or ())
        with stdout_for_results():
            return run(config(explicit=frozenset(explicit), **values))

    parameters = [inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for field in fields:
        hint, default = hints[field.name], field.default
        if _repeats(hint):
            many: Any = list[typing.get_args(hint.__origin__)[0]]  # type: ignore[misc]
            required = default is dataclasses.MISSING
            hint, default = Annotated[many if required else many | None, hint.__metadata__[0]], default or None
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else default
        parameters.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        )
    call.__name__, call.__doc__ = run.__name__, run.__doc__
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": int}
    call.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    return call


def _repeats(hint: Any) -> bool:
    return typing.get_origin(hint.__origin__) is tuple
