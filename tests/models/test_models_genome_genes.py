"""Genomes as JSON: there and back, and nothing hostile gets in."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
from genomes import genome, genomes, node
from hypothesis import given, settings
from hypothesis import strategies as st

from advkit.files.errors import InputError
from advkit.models.genome.genes import MAX_NODES, active_nodes, check, from_json, to_json
from advkit.models.genome.presets import PRESETS, named

SOUND = to_json(genome(node(3, (0,)), node(7, (0, 3), merge="concat", op="max-pool", kernel=7), node(9, (7,))))


@settings(deadline=None)
@given(genomes())
def test_json_there_and_back(found):
    text = json.dumps(to_json(found))
    assert from_json(json.loads(text)) == found
    check(found)


@settings(deadline=None)
@given(genomes(most_nodes=8))
def test_order_is_topological_and_holds_the_ancestors_of_the_output(found):
    ordered = active_nodes(found)
    known, inputs = {0}, {node.id: node.inputs for node in found.nodes}
    for one in ordered:
        assert set(one.inputs) <= known
        known.add(one.id)
    ancestors, last = {found.output}, None
    while ancestors != last:
        last, ancestors = ancestors, ancestors | {name for a in ancestors for name in inputs.get(a, ())}
    assert {one.id for one in ordered} == ancestors - {0}
    assert len(ordered) == len({one.id for one in ordered})


def altered(path: str, value: object) -> object:
    """SOUND with one value replaced, or with DELETE taken out."""
    found = copy.deepcopy(SOUND)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner = found
    for step in way:
        inner = inner[step]
    if value == "DELETE":
        del inner[last]
    else:
        inner[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("stem.kind", "conv9", r"stem\.kind is 'conv9'.*conv7s2"),
        ("stem.channels", 1025, r"stem\.channels is 1025.*from 1 to 1024"),
        ("stem.channels", True, r"stem\.channels is True.*whole number"),
        ("stem.channels", 8.0, r"stem\.channels is 8\.0.*whole number"),
        ("stem.norm", None, r"stem\.norm is None.*word"),
        ("stem", [], "stem is a list.*object of kind"),
        ("stem.width", 3, "stem has an unknown field 'width'"),
        ("stem.activation", "DELETE", "stem lacks 'activation'"),
        ("nodes", {}, "nodes must be a list"),
        ("nodes", [SOUND["nodes"][0]] * (MAX_NODES + 1), "at most 64"),
        ("nodes.1", 5, r"nodes\[1\] is 5"),
        ("nodes.0.id", 0, r"nodes\[0\]\.id is 0.*from 1"),
        ("nodes.0.id", 7, "two nodes have the id 7"),
        ("nodes.0.inputs", [], r"nodes\[0\]\.inputs must be at least one"),
        ("nodes.0.inputs", [0, 0], r"nodes\[0\]\.inputs .*none twice"),
        ("nodes.0.inputs", 0, r"nodes\[0\]\.inputs must be a list"),
        ("nodes.0.inputs", [False], r"nodes\[0\]\.inputs must be a list"),
        ("nodes.0.inputs", list(range(1000)), r"nodes\[0\]\.inputs must be a list of ids, at most"),
        ("nodes.0.inputs", [4], r"nodes\[0\]\.inputs names 4, which is no node"),
        ("nodes.0.inputs", [-1], "which is no node"),
        ("nodes.0.inputs", [3], "cycle"),
        ("nodes.0.inputs", [0, 9], "cycle"),
        ("nodes.1.merge", "mean", r"nodes\[1\]\.merge"),
        ("nodes.0.op", "attention", r"nodes\[0\]\.op is 'attention'.*separable"),
        ("nodes.0.op", ["conv"], r"nodes\[0\]\.op is a list.*word"),
        ("nodes.0.kernel", 4, r"nodes\[0\]\.kernel is 4.*1, 3, 5, 7"),
        ("nodes.1.kernel", 10**9, r"nodes\[1\]\.kernel"),
        ("nodes.0.channels", 0, r"nodes\[0\]\.channels is 0"),
        ("nodes.0.channels", 10**4000, r"nodes\[0\]\.channels is 10{20}"),
        ("nodes.0.depth", 4, r"nodes\[0\]\.depth is 4"),
        ("nodes.0.stride", 3, r"nodes\[0\]\.stride is 3.*1, 2"),
        ("nodes.0.norm", "x" * 10**6, r"nodes\[0\]\.norm is 'xxx"),
        ("nodes.0.activation", "tanh", r"nodes\[0\]\.activation"),
        ("nodes.0.skip", "DELETE", r"nodes\[0\] lacks 'skip'"),
        ("head.pool", "sum", r"head\.pool"),
        ("head.hidden", 10**6, r"head\.hidden"),
        ("head.hidden", float("nan"), r"head\.hidden"),
        ("output", 4, "output is 4, which is no node"),
        ("output", "9", "output is '9'"),
        ("output", "DELETE", "the genome lacks 'output'"),
        ("version", 2, "unknown field 'version'"),
    ],
)
def test_one_line_names_the_wrong_field(path, value, words):
    with pytest.raises(InputError, match=words) as caught:
        from_json(altered(path, value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_pooling_may_keep_any_kernel_and_a_dilated_convolution_may_not():
    assert from_json(altered("nodes.0.op", "max-pool"))
    value = altered("nodes.0.op", "dilated")
    value["nodes"][0]["kernel"] = 7
    with pytest.raises(InputError, match=r"3, 5$"):
        from_json(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PATHS = [
    *SOUND,
    *(f"{part}.{name}" for part in ("stem", "head") for name in SOUND[part]),
    *(f"nodes.{place}.{name}" for place in range(3) for name in SOUND["nodes"][0]),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PATHS), JSON)
def test_whatever_stands_there_it_is_sound_or_refused(path, value):
    try:
        found = from_json(altered(path, value))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        check(found)
        assert to_json(found) == altered(path, value)


@settings(deadline=None)
@given(JSON)
def test_other_json_is_refused(value):
    with pytest.raises(InputError, match="genome"):
        from_json(value)


@pytest.mark.parametrize("name", PRESETS)
def test_those_made_by_hand_are_sound(name):
    assert from_json(to_json(named(name))) == named(name)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"try stem7$"):
        named("stem-7")


def test_genomes_need_no_torch():
    code = "import advkit.models.genome.canonical, advkit.models.genome.limits, advkit.models.genome.presets, sys"
    assert (
        subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=False).returncode == 0
    )
