"""``advkit/genome`` as a model reference: by name, from a file, out of a checkpoint; and strangers' files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from genomes import disguised, genome, genomes, node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advkit.files.checkpoint import Checkpoint, write_checkpoint
from advkit.files.errors import InputError
from advkit.models.build import create, defaults
from advkit.models.fuse import fuse_conv_bn
from advkit.models.genome.canonical import canonical
from advkit.models.genome.genes import Stem, to_json
from advkit.models.genome.presets import named
from advkit.models.network import Network
from advkit.models.reference import load

SIZE = (3, 16, 16)
SMALL = genome(node(4, (0,), channels=6, stride=2), node(2, (0, 4), merge="concat", op="separable", skip="dense"))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(seed: int = 0, found=SMALL, **changes) -> Network:
    args = {"num_classes": 5, "input_size": SIZE, "model_args": {"genome": to_json(found)}}
    return create("advkit/genome", seed=seed, **(args | changes))


def write(path: Path, network: Network, **changes) -> Path:
    spec = network.spec
    meta = {
        "task": "classification", "architecture": spec.architecture, "model_args": spec.model_args,
        "num_classes": spec.num_classes, "labels": list(spec.labels), "input_size": list(spec.input_size),
        "mean": list(spec.mean), "std": list(spec.std),
    }  # fmt: skip
    write_checkpoint(path, Checkpoint(network.net.state_dict(), meta | changes))
    return path


def refused(ref: object, words: str, **wish) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(str(ref), **wish)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_by_name_from_a_file_and_as_argument(tmp_path):
    (tmp_path / "g.json").write_text(json.dumps(to_json(named("patch"))))
    refs = ["advkit/genome:patch", f"advkit/genome:{tmp_path / 'g.json'}"]
    networks = [create(ref, num_classes=10, input_size=(3, 32, 32), seed=4) for ref in refs]
    networks += [load(ref, seed=4) for ref in refs]
    networks.append(small(4, named("patch"), num_classes=10, input_size=(3, 32, 32)))
    assert len({network.spec.sha256 for network in networks}) == 1
    assert {network.spec.architecture for network in networks} == {"advkit/genome"}
    assert all(network.spec.model_args == {"genome": to_json(canonical(named("patch")))} for network in networks)
    assert networks[2].spec.ref == "advkit/genome:patch"
    assert defaults("advkit/genome").input_size == (3, 32, 32)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_checkpoints_come_back_to_the_same_bytes(data, tmp_path):
    network = small(found=data.draw(genomes()))
    path = write(tmp_path / "e.safetensors", network)
    again = load(str(path), num_classes=5, input_size=SIZE)
    assert (again.spec.sha256, again.spec.architecture) == (network.spec.sha256, "advkit/genome")
    assert write(tmp_path / "again.safetensors", again).read_bytes() == path.read_bytes()
    x = torch.rand(2, *SIZE)
    expected = network.eval()(x)
    torch.testing.assert_close(again(x), expected, rtol=0, atol=0)
    assert (fuse_conv_bn(again)(x) - expected).abs().max() <= 1e-4 * expected.abs().max()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_files_that_mean_the_same_give_the_same_checkpoint(data, tmp_path):
    found, written = data.draw(genomes()), []
    for name, one in (("a", found), ("b", data.draw(disguised(found)))):
        (tmp_path / f"{name}.json").write_text(json.dumps(to_json(one)))
        network = create(f"advkit/genome:{tmp_path / name}.json", num_classes=5, input_size=SIZE)
        written.append(write(tmp_path / f"{name}.safetensors", network).read_bytes())
    assert written[0] == written[1]


def test_a_checkpoint_names_its_architecture_and_nothing_else_of_it(tmp_path):
    path = write(tmp_path / "e.safetensors", small(3))
    fresh = create(f"advkit/genome:{path}", num_classes=5, input_size=SIZE, seed=8)
    assert fresh.spec.sha256 == small(8).spec.sha256
    assert fresh.spec.sha256 != small(3).spec.sha256
    other = create("advkit/cnn", num_classes=5, input_size=SIZE)
    refused(f"advkit/genome:{write(tmp_path / 'cnn.safetensors', other)}", "is advkit/cnn")
    refused(f"advkit/genome:{tmp_path / 'no.safetensors'}", "cannot read")


def test_bare_weights_tell_classes_and_channels(tmp_path):
    network = create("advkit/genome:patch", num_classes=7, input_size=(1, 16, 16), seed=2)
    torch.save({"state_dict": network.net.state_dict()}, tmp_path / "w.pt")
    found = load(f"advkit/genome:patch@{tmp_path / 'w.pt'}", input_size=(1, 16, 16))
    assert (found.spec.num_classes, found.spec.sha256) == (7, network.spec.sha256)
    refused(f"advkit/genome:stem7@{tmp_path / 'w.pt'}", "don't fit the architecture")
    refused(f"advkit/genome@{tmp_path / 'w.pt'}", "no network without a genome")


def test_the_checkpoint_of_another_genome_under_a_name(tmp_path):
    path = write(tmp_path / "e.safetensors", small())
    (tmp_path / "g.json").write_text(json.dumps(to_json(SMALL)))
    named_so = load(f"advkit/genome:{tmp_path / 'g.json'}@{path}")
    assert named_so.spec.sha256 == load(f"advkit/genome@{path}").spec.sha256 == small().spec.sha256
    refused(f"advkit/genome:patch@{path}", "is a checkpoint of another genome; write .*safetensors alone")
    refused(f"advkit/resnet8@{path}", "is a checkpoint of advkit/genome; write")


@pytest.mark.parametrize(
    ("model_args", "words"),
    [
        ({}, "no network without a genome"),
        ({"genome": to_json(SMALL), "width": 3}, "no model argument width"),
        ({"genome": None}, "genome is None"),
        ({"genome": {**to_json(SMALL), "output": 99}}, "output is 99"),
        ({"genome": to_json(genome(*[node(k, (k - 1,), channels=1024, kernel=7, depth=3) for k in range(1, 65)]))},
         "100,000,000"),
        ({"genome": to_json(genome(*[node(k, tuple(range(k)), merge="concat", op="max-pool") for k in range(1, 65)]))},
         "8192 are allowed"),
        ({"genome": to_json(genome(*[node(k, (k - 1,), channels=512) for k in range(1, 40)]))}, "unexpected|missing"),
        ({"genome": to_json(genome(stem=Stem("conv3", 8, "batch", "relu")))}, "shape|missing|unexpected"),
        ({"genome": to_json(genome(node(1, (0,), stride=2), node(2, (1,), stride=2), node(3, (2,), stride=2),
                                   node(4, (3,), stride=2)))}, "less than a 2x2 map"),
    ],
)  # fmt: skip
def test_strangers_checkpoints(tmp_path, model_args, words):
    refused(write(tmp_path / "e.safetensors", small(), model_args=model_args), words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not the JSON of a genome"),
        ("[" * 100_000, "not the JSON of a genome"),
        ("9" * 10_000, "not the JSON of a genome"),
        ("\udcff", "not the JSON of a genome"),
        ('{"stem": {}}', r"g\.json: genome: the genome lacks 'nodes'"),
        ("[]", "the genome is a list"),
        (" " * 2_000_000 + "{}", "not the JSON of a genome"),
    ],
    ids=["empty", "nested", "number", "bytes", "fields", "list", "long"],
)
def test_files_that_hold_no_genome(tmp_path, text, words):
    path = tmp_path / "g.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(f"advkit/genome:{path}", words)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("advkit/genome", "no network without a genome; write advkit/genome:NAME"),
        ("advkit/genome:", "no such file or genome; try resnet20"),
        ("advkit/genome:stem8", "try stem7$"),
        ("advkit/genome:no/such.json", "no/such.json: no such genome file"),
        ("advkit/genome:patch@pretrained", "no weights"),
        ("advkit/genom", "try advkit/genome"),
    ],
)
def test_wrong_references(ref, words):
    refused(ref, words)


def test_images_that_a_genome_cannot_take():
    refused("advkit/genome:stem7", "less than a 2x2 map of 8x8", input_size=(1, 8, 8))
