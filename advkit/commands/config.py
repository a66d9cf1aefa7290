"""One frozen dataclass for each tool: its fields are the options, its defaults stand once."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import typer


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every tool's options have in common.

    Attributes:
        explicit: names of the options that were really given, be it with their default's value.
    """

    explicit: frozenset[str] = frozenset()


ConfigT = TypeVar("ConfigT", bound=Config)


def command(config: type[ConfigT], run: Callable[[ConfigT], int]) -> Callable[..., int]:
    """The function from which typer makes the command: fields of ``config`` to options, ``run`` to what is done.

    Args:
        config: its fields are annotated as typer wants parameters to be; its docstring is the help.
        run: from the config to an exit status.
    """
    hints = get_type_hints(config, include_extras=True)
    fields = [field for field in dataclasses.fields(config) if field.name != "explicit"]

    def function(ctx: typer.Context, **given: Any) -> int:
        sources = {name: ctx.get_parameter_source(name) for name in given}
        explicit = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
        return run(config(**given, explicit=frozenset(explicit)))

    function.__doc__, function.__name__ = config.__doc__, run.__name__
    function.__annotations__ = {"ctx": typer.Context, **{field.name: hints[field.name] for field in fields}}
    signature = inspect.Signature(
        [
            inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
                    annotation=hints[field.name],
                )
                for field in fields
            ),
        ]
    )
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function
