"""The methods by name. A new one is one file and one line here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast

from advkit.adaptation.method import AdaptationMethod, MethodContext
from advkit.files.errors import InputError
from advkit.tasks.task import Task


@dataclass(frozen=True)
class MethodEntry:
    """Where a method is, and whose it is.

    Attributes:
        place: module and class.
        has_places: of tasks whose targets lie somewhere in the image (detectors), of others (classifiers); None of all.
    """

    place: str
    has_places: bool | None = False


METHODS: dict[str, MethodEntry] = {
    "none": MethodEntry("advkit.adaptation.method:SourceOnly", None),
    "adabn": MethodEntry("advkit.adaptation.adabn:AdaBN"),
    "dann": MethodEntry("advkit.adaptation.dann:DANN"),
    "cdan": MethodEntry("advkit.adaptation.cdan:CDAN"),
    "coral": MethodEntry("advkit.adaptation.coral:CORAL"),
    "mcc": MethodEntry("advkit.adaptation.mcc:MCC"),
    "self-training": MethodEntry("advkit.adaptation.self_training:SelfTraining"),
    "global": MethodEntry("advkit.adaptation.global_alignment:GlobalAlignment", True),
    "local": MethodEntry("advkit.adaptation.local_alignment:LocalAlignment", True),
    "local-global": MethodEntry("advkit.adaptation.local_global:LocalGlobal", True),
    "mean-teacher": MethodEntry("advkit.adaptation.mean_teacher:MeanTeacher", True),
}


def methods_of(task: Task) -> list[str]:
    """The names of the methods for networks of ``task``."""
    return [name for name, entry in METHODS.items() if entry.has_places in (None, task.has_places)]


def check_method(task: Task, name: str) -> None:
    """Raise InputError unless the method ``name`` is for networks of ``task``."""
    if name not in methods_of(task):
        raise InputError(f"--method {name}: is not for {task.name}; choose one of {', '.join(methods_of(task))}")


def method_of(task: Task, context: MethodContext) -> AdaptationMethod:
    """The method that the settings name.

    Raises:
        InputError: it is for another task; a network that it can't work on.
    """
    name = context.settings.method
    check_method(task, name)
    module, _, attribute = METHODS[name].place.partition(":")
    return cast("AdaptationMethod", getattr(importlib.import_module(module), attribute)(context))
