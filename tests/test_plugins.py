"""Tests code of one's own: `register`, and --import through all commands."""

import contextlib
import functools
import importlib
import json
import re
import subprocess
import sys

import pytest
from helpers import assert_one_line, command, environment
from PIL import Image

import cifar_jax
from cifar_jax import UserError, models, plugins, read_run, register
from cifar_jax.models.resnet import CifarResNet
from cifar_jax.models.tutorial import TutorialCNN

SOURCE = """
from flax import linen as nn

from cifar_jax import Block, Network, register
from cifar_jax.optimization.losses import CrossEntropy


class Part(Block):
    width: int

    @nn.compact
    def __call__(self, x, train):
        x = self.convolution(self.width, (3, 3), "conv", strides=4)(x)
        return self.tap("conv", nn.relu(self.batch_norm("norm", train)(x)))


@register("model", "parts")
class Parts(Network):
    width: int = 4

    @nn.compact
    def __call__(self, images, train=False):
        x = images
        for name in ("part1", "part2"):
            part = Part(self.width, dtype=self.dtype, ops=self.ops, name=name)
            x = part(x, train)
        return self.predictions(x.mean((1, 2)), nn.initializers.normal(0.1))


@register("loss", "gentle")
def gentle(share: float = 0.1):
    return CrossEntropy(label_smoothing=share)
"""
TRAIN = (
    *("train", "--dataset=digits", "--train_dir=run", "--batch_size=8"),
    *("--max_steps=2", "--model=parts(width=3)", "--loss=gentle(0.2)"),
    "--param_groups=group('part1/.*', frozen=True)",
)
REFUSAL = "the run uses loss gentle from {0}; pass --import={0}"


@pytest.fixture
def forget(monkeypatch):
    """Returns a context in which nothing is registered yet, as in a new process."""

    @contextlib.contextmanager
    def context():
        modules, paths = set(sys.modules), list(sys.path)
        with monkeypatch.context() as patch:
            for name in ("_origins", "_loaded"):
                patch.setattr(plugins, name, type(getattr(plugins, name))())
            for kind in plugins.KINDS:
                registry = registry_of(kind)
                for name, choice in registry.items():
                    patch.setitem(registry, name, choice)
            before = {kind: dict(registry_of(kind)) for kind in plugins.KINDS}
            try:
                yield
            finally:
                for kind, choices in before.items():
                    registry_of(kind).clear()
                    registry_of(kind).update(choices)
                sys.path[:] = paths
                for name in set(sys.modules) - modules:
                    if not name.startswith(("cifar_jax", "jax", "flax", "optax")):
                        del sys.modules[name]

    return context


def registry_of(kind):
    module, attribute = plugins.KINDS[kind].split(":")
    return getattr(importlib.import_module(module), attribute)


@pytest.fixture
def fresh(forget):
    with forget():
        yield


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_kind_has_a_registry_that_a_name_can_be_added_to(kind, fresh):
    @register(kind, "mine")
    def mine():
        return None

    assert registry_of(kind)["mine"] is mine


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("network", "mine", "kind='network' is unknown; choose from dataset, "),
        ("model", "my net", "name='my net' must be a valid Python name"),
        ("model", "tutorial", "there is already a model tutorial; choose another"),
    ],
)
def test_what_cannot_be_registered_is_refused(kind, name, message, fresh):
    with pytest.raises(UserError, match=message):
        register(kind, name)(CifarResNet)
    assert models.MODELS["tutorial"] is TutorialCNN


def test_the_same_can_be_registered_again(fresh):
    wide = functools.partial(CifarResNet, width=128)
    for _ in range(2):
        assert register("model", "wide")(wide) is wide
    with pytest.raises(UserError, match="there is already a model wide"):
        register("model", "wide")(functools.partial(CifarResNet, width=96))
    assert models.create("wide(depths=(1, 1))").width == 128
    # As when a cell of a notebook is run again.
    for _ in range(2):
        names = {"__name__": "notebook"}
        exec("class Own: pass", names)
        register("model", "own")(names["Own"])
    with pytest.raises(UserError, match="there is already a model own"):
        register("model", "own")(lambda: None)
    register("model", "nameless")(lambda: None)
    with pytest.raises(UserError, match="there is already a model nameless"):
        register("model", "nameless")(lambda: None)


@pytest.mark.slow
def test_own_code_passes_through_all_commands(call_command, tmp_path, forget):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "parts_file.py").write_text(SOURCE)
    Image.new("RGB", (40, 40), "green").save(tmp_path / "green.png")
    imports = "--import=elsewhere/parts_file.py"

    with forget():
        found = call_command(*TRAIN)
        assert_one_line(found, 2, "--model=parts(width=3): parts is unknown; choose")
        done = call_command(*TRAIN, imports)
        assert done.returncode == 0, done.stderr
        assert "network parts(width=3) with" in done.stdout
    file = str((elsewhere / "parts_file.py").resolve())
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["imports"] == {"loss gentle": file, "model parts": file}
    assert saved["config"]["model"] == "parts(width=3)"
    record = (tmp_path / "run" / "train.jsonl").read_text().splitlines()[0]
    assert "part1/conv" in record

    for words in (
        ("eval", "--checkpoint_dir=run", "--num_examples=20"),
        ("predict", "--checkpoint_dir=run", "green.png"),
        ("export", "--checkpoint_dir=run", "--out=out"),
        ("compare", "run"),
        ("demo", "--checkpoint_dir=run", "--port=0"),
        TRAIN,
    ):
        with forget():
            found = call_command(*words)
            expected = "parts is unknown" if words == TRAIN else REFUSAL.format(file)
            assert_one_line(found, 2, expected)
            if words[0] != "demo":
                done = call_command(*words, imports)
                assert done.returncode == 0, done.stderr
    with forget():
        weights = ("predict", "--weights=out/model.safetensors", "green.png")
        assert_one_line(call_command(*weights), 2, "the run uses model parts from")
        done = call_command(*weights, imports)
        assert done.returncode == 0, done.stderr
    with forget(), pytest.raises(UserError, match=r"pass --import=.* import it first"):
        read_run(tmp_path / "run")


@pytest.mark.slow
def test_a_module_is_found_as_python_finds_it(tmp_path):
    (tmp_path / "parts_module.py").write_text(SOURCE)
    script = tmp_path / "script.py"
    script.write_text(
        "import parts_module\n"
        "from cifar_jax import load_trained, read_run\n"
        "print(load_trained(read_run('run')).model.width)\n"
    )

    def run(*words, code=0):
        found = subprocess.run(
            words,
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert found.returncode == code, found.stderr
        return found

    run(*command(*TRAIN, "--import=parts_module"))
    assert run(sys.executable, "script.py").stdout == "3\n"
    evaluation = command("eval", "--checkpoint_dir=run", "--num_examples=20")
    assert_one_line(run(*evaluation, code=2), 2, REFUSAL.format("parts_module"))
    # A script that registers what it trains knows it again, and can be imported.
    script.write_text(
        SOURCE + "from cifar_jax import Config, fit, load_data, read_run\n"
        "if __name__ == '__main__':\n"
        "    settings = {'max_steps': 1, 'batch_size': 8, 'train_dir': 'own'}\n"
        "    config = Config(model='parts', **settings)\n"
        "    fit(config, load_data('digits'), lambda line: None)\n"
        "    print(read_run('own').config.model)\n"
    )
    assert run(sys.executable, "script.py").stdout == "parts\n"
    evaluation = command("eval", "--checkpoint_dir=own", "--num_examples=20")
    found = run(*evaluation, code=2)
    assert f"model parts from {script}; pass --import={script}" in found.stderr
    run(*evaluation, f"--import={script}")


def test_runs_without_own_code_need_no_import(fresh, finished_run):
    register("model", "unused")(CifarResNet)
    assert plugins.find_used(["tutorial", "sgd(momentum=0.9)"]) == {}
    assert read_run(finished_run).config.model == "small"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "there is no such module or file; pass MODULE or FILE.py"),
        ("import os\n\n1 / 0\n", "{file}, line 3: ZeroDivisionError: division by zero"),
        ("x = 1\nif x\n", "{file}, line 2: expected ':'"),
        ("import nowhere_at_all\n", "{file}, line 1: ModuleNotFoundError: No module"),
        ("raise SystemExit(0)\n", "{file}, line 1: SystemExit: 0"),
        (
            "from cifar_jax import register\n"
            "def f(): pass\n"
            "register('model', 'tutorial')(f)\n",
            "{file}, line 3: there is already a model tutorial; choose another name",
        ),
    ],
)
@pytest.mark.parametrize("name", ["failing_code", "folder/failing_code.py"])
def test_an_import_that_fails_names_file_and_line(
    source, message, name, tmp_path, monkeypatch, fresh
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ("failing_code.py" if "/" not in name else name)
    monkeypatch.syspath_prepend(tmp_path)
    if source is not None:
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    with pytest.raises(UserError) as caught:
        plugins.load([name])
    expected = f"--import={name}: " + message.format(file=file)
    assert re.match(re.escape(expected), str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("x = images\n", "x = images.nothing\n"), "line 23: AttributeError: "),
        (
            ("CrossEntropy(label_smoothing=share)", "share"),
            "--loss=gentle(0.2): gentle returns an object of float, which is not a ",
        ),
    ],
)
def test_own_code_that_fails_in_a_run_is_named(
    change, message, call_command, tmp_path, fresh
):
    source = SOURCE.replace(*change)
    assert source != SOURCE
    (tmp_path / "failing_parts.py").write_text(source)
    done = call_command(*TRAIN, "--import=failing_parts.py")
    assert_one_line(done, 2, message)


@pytest.mark.wrong_types
def test_a_fault_of_the_package_is_not_blamed_on_own_code():
    with pytest.raises(TypeError) as caught:
        plugins.find_used(None)
    assert f"{__file__}, line " in plugins.find_culprit(caught.value)
    inner = caught.value.with_traceback(caught.tb.tb_next)
    assert plugins.find_culprit(inner) is None


def test_a_file_does_not_pass_for_another_module(tmp_path, fresh):
    (tmp_path / "json.py").write_text("")
    message = "there is already a module json; rename the file"
    with pytest.raises(UserError, match=message):
        plugins.load([str(tmp_path / "json.py")])


def test_a_file_finds_its_neighbors_and_is_imported_once(tmp_path, fresh):
    (tmp_path / "neighbor_of_it.py").write_text(
        "from cifar_jax import register\n"
        "@register('loss', 'next_door')\n"
        "def loss(): pass\n"
    )
    file = tmp_path / "with_neighbor.py"
    file.write_text("import neighbor_of_it\nprint('imported')\n")
    for _ in range(2):
        plugins.load([str(file)])
    # What --import was given is what brings it.
    assert plugins.find_used(["next_door"]) == {"loss next_door": str(file)}


def test_the_public_name_is_the_function():
    assert cifar_jax.register is plugins.register


def test_a_name_is_not_both_a_distortion_and_a_mixture():
    with pytest.raises(UserError, match="there is already a mixture mixup"):
        plugins.register("distortion", "mixup")(object())
