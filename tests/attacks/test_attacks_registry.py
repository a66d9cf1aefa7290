"""What the registry promises: every name works, every parameter changes the result, nonsense is refused in one line."""

from __future__ import annotations

import pickle

import pytest
import torch
from test_attacks_loop import some_partners, suited

from advkit.attacks.attack import GENERAL
from advkit.attacks.methods import NAMES, methods_table, parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.registry import ATTACKS, attack_named, modifier_named
from advkit.attacks.run import AttackBatch, attack
from advkit.files.errors import InputError
from advkit.tasks.task import task_named

# Another value of every parameter of every method, and what else it takes for that to show.
OTHER = {
    "mi:decay": "0.3",
    "ni:decay": "0.3",
    "di:probability": "1",
    "di:shrink": "0.5",
    "ti:kernel": "3",
    "si:scales": "2",
    "square:queries": "40",
    "square:p_init": "0.1",
    "fmn:steps": "7",
    "fmn:step": "0.2",
    "fmn:gamma": "0.5",
}
OTHER |= {
    "ddn:steps": "2",
    "ddn:step": "0.1",
    "ddn:gamma": "0.5",
    "cw:steps": "9",
    "cw:searches": "2",
    "cw:constant": "1",
    "cw:confidence": "0.5",
    "cw:rate": "0.1",
    "vmi:samples": "3",
    "vmi:beta": "0.5",
    "ssa:views": "2",
    "ssa:sigma": "0",
    "ssa:rho": "0.1",
    "bsr:views": "2",
    "bsr:blocks": "3",
    "bsr:degrees": "1",
    "admix:partners": "1",
    "admix:eta": "0.5",
    "sgm:gamma": "0.1",
    "square:rescale": "0",
    "apgd-ce:steps": "9",
    "apgd-ce:rho": "0.2",
    "apgd-dlr:steps": "9",
    "apgd-dlr:rho": "0.2",
    "apgd-t:steps": "9",
    "apgd-t:rho": "0.2",
    "apgd-t:targets": "1",
    "fab-t:steps": "2",
    "fab-t:targets": "1",
    "fab-t:alpha": "0",
    "fab-t:eta": "2",
    "fab-t:beta": "0.5",
    "autoattack:steps": "3",
    "autoattack:targets": "1",
    "autoattack:queries": "20",
}
BASE = {
    **{f"cw:{one}": "cw:steps=40:searches=4" for one in ("steps", "searches", "constant", "confidence", "rate")},
    "di:shrink": "di:probability=1",
    "square:p_init": "square:queries=30",
    "square:queries": "square:queries=20",
    "square:rescale": "square:queries=60",
    **dict.fromkeys(
        (f"fab-t:{one}" for one in ("steps", "targets", "alpha", "eta", "beta")), "fab-t:steps=9:targets=2"
    ),
    **dict.fromkeys(("autoattack:steps", "autoattack:targets", "autoattack:queries"), "autoattack:steps=5:queries=9"),
}
QUICK = {
    "square": "square:queries=3",
    "autoattack": "autoattack:steps=3:queries=3",
    "cw": "cw:steps=5",
    "fab-t": "fab-t:steps=3",
}


def everything() -> list[tuple[str, str]]:
    """All (method, parameter)."""
    parts = {name: attack_named(name) if name in ATTACKS else modifier_named(name) for name in NAMES}
    return [(name, parameter) for name, one in parts.items() for parameter in one.parameters]


def run(text: str, **settings: object) -> AttackBatch:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    method, network = parse_method(text), suited(text)()
    labels = network(images).argmax(1)  # correct on all of them
    eps = float("inf") if method.attack.minimal_norm else 0.2
    settings = {"norm": method.attack.norms[0]} | settings
    params = AttackParams(method, **{"eps": eps, "steps": 4, **settings})  # type: ignore[arg-type]
    return attack([network], images, labels, torch.arange(4), params, partners=some_partners(images, labels))


@pytest.mark.parametrize(("name", "parameter"), everything())
def test_every_parameter_changes_the_result(name: str, parameter: str) -> None:
    place = f"{name}:{parameter}"
    base = BASE.get(place, name)
    start, _, rest = base.partition(":")
    kept = [setting for setting in rest.split(":") if setting and not setting.startswith(f"{parameter}=")]
    flipped = ":".join([start, *kept, f"{parameter}={OTHER[place]}"])
    settings = {"eps": 1e-4} if name == "autoattack" else {}  # nothing is fooled, and square has the last word
    before, after = run(base, **settings), run(flipped, **settings)
    same = torch.equal(before.images, after.images)
    dearer = before.forwards != after.forwards
    costs = name == "autoattack" or place in ("fab-t:targets", "fab-t:steps")  # what is nearest is found at once here
    assert dearer if costs else not same


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_complete(name: str) -> None:
    method = parse_method(name)
    assert name in method.name.split(",")
    assert method.name == parse_method(method.name).name
    assert method.attack.function.__doc__
    assert set(method.attack.uses) <= set(GENERAL)
    assert method.attack.loss in task_named("classification").attack_losses
    again = pickle.loads(pickle.dumps(AttackParams(method, eps=0.1)))
    assert again.to_json() == AttackParams(method, eps=0.1).to_json()
    assert any(line.startswith(f"{name} ") for line in methods_table())
    for norm in method.attack.norms:
        run(QUICK.get(name, name), norm=norm)


def test_spelling_tells_what_is_not_the_default() -> None:
    assert parse_method("DI, mi").name == "mi,di"
    assert parse_method("mi:decay=1").name == "mi"
    assert parse_method("di:shrink=0.8,mi:decay=0.5").name == "mi:decay=0.5,di:shrink=0.8"
    assert parse_method("square:p-init=0.3").name == "square:p_init=0.3"
    assert parse_method("ni").name == "mi,ni"
    ni = parse_method("ni:decay=0.5")
    assert ni.parameters == {"mi": {"decay": 0.5}, "ni": {"decay": 0.5}}
    assert parse_method(ni.name).parameters == ni.parameters
    assert parse_method("mi:decay=0.5,ni").parameters == ni.parameters


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("magic", "no such method"),
        ("", "no such method"),
        ("mi,square", "stands alone"),
        ("noise,mi", "stands alone"),
        ("fgsm,mi", "one step"),
        ("iterative", "no such method"),
        ("mi,mi", "twice"),
        ("mi:speed=2", "no parameter 'speed'; its own: decay"),
        ("pgd:steps=3", "its own: none"),
        ("mi:decay", "write mi:PARAMETER=VALUE"),
        ("mi:decay=fast", "a number from 0 to 10"),
        ("mi:decay=nan", "a number from 0 to 10"),
        ("square:queries=2.5", "a whole number"),
        ("square:queries=0", "from 1"),
        ("ti:kernel=4", "odd"),
        ("cw:steps=5,rate=1", "rate=1: no method; parameters stand behind colons"),
        ("di:shrink=0", "from 0.01 to 1"),
    ],
)
def test_nonsense_is_one_line(text: str, words: str) -> None:
    with pytest.raises(InputError, match=r"--method") as refused:
        parse_method(text)
    assert words in str(refused.value)


def test_a_report_names_only_what_has_an_effect() -> None:
    assert "steps" not in AttackParams(parse_method("square")).to_json()
    assert AttackParams(parse_method("square")).to_json()["loss"] == "margin"
    told = AttackParams(parse_method("fmn"), eps=float("inf")).to_json()
    assert told["eps"] is None
    assert told["parameters"] == {"fmn": {"steps": 100, "step": 1.0, "gamma": 0.05}}
    assert AttackParams(parse_method("fgsm"), eps=0.1).to_json()["steps"] == 1


class Frozen(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(images), -1)


@pytest.mark.parametrize("method", ["pgd", "mi", "fmn"])
def test_a_surrogate_without_gradients_is_told_from_a_dead_one(method: str) -> None:
    images = torch.rand(2, 1, 4, 4)
    with pytest.raises(InputError, match="only be a victim"):
        attack([Frozen()], images, torch.zeros(2).long(), torch.arange(2), AttackParams(parse_method(method)))
    found = attack([Frozen()], images, torch.zeros(2).long(), torch.arange(2), AttackParams(parse_method("noise")))
    assert not torch.equal(found.images, images)


def test_eight_bit_results_fool_as_they_are_written() -> None:
    """The boundary lies between two levels: an image that fools only in float32 does not count."""

    class Threshold(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score = (x.flatten(1).mean(1) - 128.4 / 255) * 100
            return torch.stack([-score, score], 1)

    images = torch.full((1, 1, 4, 4), 126 / 255)
    zero = torch.zeros(1, dtype=torch.int64)
    for eps, fools in ((2.45 / 255, False), (3 / 255, True)):
        params = AttackParams(parse_method("mi"), eps=eps, steps=5, goal="robustness", quantize=True)
        found = attack([Threshold()], images, zero, torch.arange(1), params).images
        assert torch.equal(found * 255, torch.round(found * 255))
        assert bool((Threshold()(found).argmax(1) == 1).item()) is fools
        assert float((found - images).abs().max()) <= eps + 1e-6
