"""Manual pages say what the tools take, both ways, and are sound mdoc; schemas are what the models say."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from advkit.commands.adapt_config import AdaptConfig
from advkit.commands.adv_pretrain_config import AdvPretrainConfig
from advkit.commands.app import application
from advkit.commands.attack_options import AttackConfig
from advkit.commands.config import Config, option_fields, spelt
from advkit.commands.domain_distance_config import DistanceConfig
from advkit.commands.evaluate import EvaluateConfig
from advkit.commands.evolve_config import EvolveConfig
from advkit.commands.matrix_config import MatrixConfig
from advkit.commands.train_config import TrainConfig
from advkit.commands.visualize import AttentionConfig
from advkit.commands.visualize_features import FeaturesConfig
from advkit.reports.envelope import SCHEMAS, TOOLS, schema_text

REPOSITORY = Path(__file__).resolve().parents[2]
MAN = REPOSITORY / "man"
HELP = {  # pages and what they are of: a command, or several
    "advkit-train": ["train"],
    "advkit-adv-pretrain": ["adv-pretrain"],
    "advkit-adapt": ["adapt"],
    "advkit-attack": ["attack"],
    "advkit-transfer-matrix": ["transfer-matrix"],
    "advkit-evolve": ["evolve"],
    "advkit-domain-distance": ["domain-distance"],
    "advkit-evaluate": ["evaluate"],
    "advkit-visualize": ["visualize attention", "visualize features"],
    "advkit": [""],
}

CONFIGS: dict[str, tuple[type[Config], ...]] = {
    "advkit-train": (TrainConfig,),
    "advkit-adv-pretrain": (AdvPretrainConfig,),
    "advkit-adapt": (AdaptConfig,),
    "advkit-attack": (AttackConfig,),
    "advkit-transfer-matrix": (MatrixConfig,),
    "advkit-evolve": (EvolveConfig,),
    "advkit-domain-distance": (DistanceConfig,),
    "advkit-evaluate": (EvaluateConfig,),
    "advkit-visualize": (AttentionConfig, FeaturesConfig),
}


def offered(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    application()([*arguments, "--help"], standalone_mode=False)
    text = capsys.readouterr().out
    options = [line for line in text.splitlines() if re.match(r"  -", line)]
    assert options
    return {name for line in options for name in re.findall(r"--[a-z][a-z0-9-]*", line.split("   ")[0])}


def documented(page: str) -> set[str]:
    lines = [line for line in (MAN / f"{page}.1").read_text().splitlines() if line.startswith(".It Fl")]
    return {f"--{name}" for line in lines for name in re.findall(r"(?:Fl|,) -([a-z][a-z0-9-]*)", line)}


@pytest.mark.parametrize("page", HELP)
def test_every_option_stands_in_the_page_and_every_one_there_exists(
    page: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert documented(page) == set().union(*(offered(command.split(), capsys) for command in HELP[page]))


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_pages_are_sound_mdoc() -> None:
    found = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *sorted(MAN.iterdir())], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_every_page_goes_into_the_wheel() -> None:
    listed = re.findall(r'^"(man/[^"]+)" = "share/man/man([15])/', (REPOSITORY / "pyproject.toml").read_text(), re.M)
    assert {name for name, _ in listed} == {f"man/{page.name}" for page in MAN.iterdir()}
    assert all(name.endswith(section) for name, section in listed)


@pytest.mark.parametrize("tool", SCHEMAS)
def test_schemas_have_not_drifted(tool: str) -> None:
    kept = (REPOSITORY / "advkit/reports/schemas" / f"{tool.replace(' ', '-')}.json").read_text()
    assert kept == schema_text(tool), "the report changed: write the schema anew, and raise its number if meaning did"


@pytest.mark.parametrize(
    "path",
    sorted(REPOSITORY.glob("tests/studies/*/results*/*.json")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_the_studies_reports_keep_to_the_schemas(path: Path) -> None:
    report = json.loads(path.read_text())
    if "schema" in report:
        TOOLS[report["schema"].split("/")[1]].model_validate(report)


def test_help_is_fast_and_imports_no_torch() -> None:
    code = "import sys; from advkit.commands.app import run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=REPOSITORY).returncode == 0
    )


def described(page: str, option: str) -> str:
    """What a page says under ``option``, as plain words."""
    text = (MAN / f"{page}.1").read_text()
    for block in re.split(r"^\.It ", text, flags=re.M)[1:]:
        head, _, body = block.partition("\n")
        if re.search(rf"(?:Fl|,) -{option}\b(?!-)", head):
            return re.sub(r"^\.(?:Cm|Ar|Pa|Fl|Xr|Em) ", "", body.partition("\n.El")[0], flags=re.M)
    raise AssertionError(f"{page}: no --{option}")


def said(text: str, default: object) -> bool:
    """Whether ``text`` names ``default`` as one."""
    words = [word.strip(",;.()") for word in text.split()]
    if isinstance(default, str):
        return "default" in text and all(word in words for word in default.split(","))
    numbers = [float(word) for word in words if re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", word)]
    return "default" in text and float(str(default)) in numbers


def test_said() -> None:
    assert said("the default is 5e-4.", 0.0005)
    assert not said("the default is 5e-3.", 0.0005)
    assert not said("ten, as ever: 10", 10)
    assert said("sgd\n(Nesterov, the default) or\nadamw .", "sgd")


@pytest.mark.parametrize("page", CONFIGS)
def test_every_default_is_the_one_that_the_page_says(page: str) -> None:
    for config, field in ((one, field) for one in CONFIGS[page] for field in option_fields(one)):
        default = field.default
        if default is dataclasses.MISSING or default in (None, "", ()) or isinstance(default, bool):
            continue
        option = spelt(config, field.name).removeprefix("--")
        assert said(described(page, option), default), f"--{option}: the default is {default}"


def test_the_attack_page_has_every_method_with_its_parameters() -> None:
    from advkit.attacks.methods import NAMES
    from advkit.attacks.registry import ATTACKS, attack_named, modifier_named

    text = (MAN / "advkit-attack.1").read_text()
    table = text[text.index("are controls.\n.Bl -tag") :].partition("\n.El")[0]
    items = {block.split("\n")[0]: block for block in table.split(".It Cm ")[1:]}
    assert list(items) == list(NAMES)
    for name in NAMES:
        one = attack_named(name) if name in ATTACKS else modifier_named(name)
        assert one.summary in items[name]
        told = re.findall(r"^\.Cm ([\w-]+):(\w+) ,\nby default (.*)\.$", items[name], re.M)
        assert [(owner, parameter) for owner, parameter, _ in told] == [(name, p) for p in one.parameters]
        for _, parameter, default in told:
            expected = one.parameters[parameter].default
            assert default == f"{expected:g}" if expected is not None else "in proportion" in default
