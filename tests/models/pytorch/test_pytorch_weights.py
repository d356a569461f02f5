"""Compares networks with those of PyTorch's libraries, given the same weights.

The golden values come from golden/make_pytorch.py.
"""

import json
import pickle
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from golden import pytorch_inputs as inputs
from helpers import assert_equal_states, assert_one_line
from safetensors.numpy import save_file

from cifar_jax import Config, Dataset, Split, UserError, fit, models

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "pytorch.npz")
RESNET = "resnet18(depths=(1, 1, 1, 1))"
VIT = inputs.CASES["timm vit"]


def state_dict(case: str) -> dict[str, np.ndarray]:
    """Returns the weights that a library's network was given."""
    shapes = json.loads(str(GOLDEN[f"{case} shapes"]))
    return {name: inputs.tensor(name, tuple(shape)) for name, shape in shapes.items()}


@pytest.fixture
def saved(tmp_path):
    """Returns a function that writes a state dict to a file."""

    def save(tensors: dict[str, np.ndarray]) -> Path:
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        return tmp_path / "model.safetensors"

    return save


# Relative to the largest logit. Measured: 1e-6.
@pytest.mark.parametrize("case", inputs.CASES)
def test_logits_are_those_of_the_library(case, saved):
    network = models.create(inputs.CASES[case], 10)
    variables = models.from_pytorch(saved(state_dict(case)), network)
    expected = GOLDEN[f"{case} logits"]
    found = jax.jit(network.apply)(variables, inputs.images())
    np.testing.assert_allclose(found, expected, atol=5e-6 * np.abs(expected).max())


def test_a_wrapped_network_and_the_names_of_pytorch_cifar(saved):
    network = models.create(RESNET, 10)
    state = state_dict("timm resnet")
    expected = models.from_pytorch(saved(state), network)
    renamed = {
        "module." + name.replace("downsample", "shortcut").replace("fc.", "linear."): x
        for name, x in state.items()
    }
    assert_equal_states(models.from_pytorch(saved(renamed), network), expected)


def test_narrow_numbers_become_float32(saved):
    state = {
        name: tensor.astype(np.float16)
        for name, tensor in state_dict("timm vit").items()
    }
    variables = models.from_pytorch(saved(state), models.create(VIT, 10))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


def train(**settings):
    """Trains one step at so low a rate that nothing changes; returns log and state."""
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    split = Split(images, np.arange(8))
    names = tuple(map(str, range(settings.pop("classes", 10))))
    data = Dataset.create("own", split, split, class_names=names)
    lines: list[str] = []
    values = {
        "image_size": 32,
        "distortions": "",
        "normalization": "torch",
        "optimizer": "sgd",
        "learning_rate": 1e-30,
        "average": "none",
        "max_steps": 1,
        "batch_size": 8,
        "train_dir": None,
    }
    state = fit(Config(**values | settings), data, lines.append).state
    return lines, state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "head"), [("timm resnet", "fc"), ("torchvision vit", "heads.head")]
)
def test_a_run_starts_from_the_file(case, head, saved):
    model, state = inputs.CASES[case], state_dict(case)
    path = saved(state)
    lines, found = train(model=model, init_from=str(path))
    assert f"starting from the weights of {path}" in lines
    known = models.from_pytorch(path, models.create(model, 10))["params"]
    np.testing.assert_array_equal(
        found.params["predictions"]["kernel"], state[f"{head}.weight"].T
    )
    lines, found = train(model=model, init_from=str(path), classes=12)
    assert f"starting from the weights of {path}; new layers: predictions" in lines
    assert found.params["predictions"]["kernel"].shape[-1] == 12
    for layer in known.keys() - {"predictions"}:
        jax.tree.map(np.testing.assert_array_equal, found.params[layer], known[layer])
    without = {k: v for k, v in state.items() if not k.startswith(head)}
    lines, _ = train(model=model, init_from=str(saved(without)))
    assert f"starting from the weights of {path}; new layers: predictions" in lines


def pretrained_on_imagenet(state):
    state["conv1.weight"] = np.zeros((64, 3, 7, 7), np.float32)


@pytest.mark.parametrize(
    ("case", "model", "change", "message"),
    [
        ("timm resnet", RESNET, pretrained_on_imagenet, "is of a ResNet for ImageNet"),
        ("timm resnet", "resnet18", None, r"no conv2_block2_1_bn/bias of shape \(64,"),
        ("timm resnet", VIT, None, r"has bn1.bias of shape \(64,\), for which ViT has"),
        ("timm resnet", "resnet50", None, "is the ResNet of Keras, which halves"),
        (
            "timm resnet",
            "tutorial",
            None,
            "can be used by CifarResNet, .*, not Tut",
        ),
        ("timm vit", VIT.replace("8", "16"), None, "patches/kernel of shape"),
        ("timm vit", VIT.replace("depth=2", "depth=3"), None, "has no block3/key/bias"),
        ("timm vit", VIT.replace("depth=2", "depth=1"), None, "has block2/key/bias of"),
        (
            "timm vit",
            VIT,
            lambda state: state.update({"blocks.0.ls1.gamma": np.ones(24, np.float32)}),
            "has blocks.0.ls1.gamma of shape",
        ),
        (
            "timm vit",
            VIT,
            lambda state: state.update(
                {"blocks.0.attn.qkv.bias": np.ones(70, np.float32)}
            ),
            r"has blocks.0.attn.qkv.bias of shape \(70,\), for which ViT has no place",
        ),
        (
            "timm vit",
            VIT,
            lambda state: state.update(
                {"blocks.0.mlp.fc1.weight": np.array(1, np.float32)}
            ),
            r"has blocks.0.mlp.fc1.weight of shape \(\), for which",
        ),
        (
            "timm vit",
            VIT,
            lambda state: state.update({"class_token": state["cls_token"]}),
            "has cls_token twice, by two names",
        ),
        (
            "timm vit",
            VIT,
            lambda state: state["norm.bias"].fill(np.nan),
            r"it has non-finite values in norm.bias \(24 of 24\)",
        ),
        (
            "timm vit",
            VIT,
            lambda state: state.update({"norm.bias": np.ones(24)}),
            "norm.bias is of type F64, not F32",
        ),
    ],
)
def test_weights_of_another_network_are_refused(saved, case, model, change, message):
    state = state_dict(case)
    if change is not None:
        change(state)
    with pytest.raises(UserError, match=message) as caught:
        train(model=model, init_from=str(saved(state)))
    assert "\n" not in str(caught.value)


def test_positions_for_another_image_size_are_refused(saved):
    with pytest.raises(UserError, match=r"position_embedding of shape \(1, 17, 24\)"):
        train(model=VIT, init_from=str(saved(state_dict("timm vit"))), image_size=64)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}))
        archive.writestr("model/version", "3")


@pytest.mark.parametrize("name", ["best.pth", "pytorch_model.bin", "x.safetensors"])
@pytest.mark.parametrize(
    "write",
    [
        zipped,
        # How torch.save began its files before version 1.6.
        lambda path: path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2)),
        lambda path: path.write_bytes(pickle.dumps({"weight": [1.0]})),
    ],
)
def test_pickles_are_refused_by_every_command(name, write, tmp_path, call_command):
    write(tmp_path / name)
    for words in (
        ("train", "--dataset=digits", "--train_dir=new", f"--init_from={name}"),
        ("predict", f"--weights={name}", "0.png"),
        ("predict", "--model=resnet50", f"--weights={name}", "0.png"),
    ):
        result = call_command(*words)
        convert = f"safetensors.torch.save_file(torch.load('{name}', weights_only=True)"
        assert_one_line(result, 2, name, convert)


def test_a_safetensors_file_that_begins_like_a_pickle_is_read(saved):
    state = state_dict("timm vit")
    path = saved(state)
    for length in range(1000):
        save_file(state, path, {"format": "pt", "filler": "x" * length})
        if path.read_bytes()[0] == 0x80:
            break
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert header % 256 == 0x80
    models.from_pytorch(path, models.create(VIT, 10))


@pytest.mark.parametrize(
    "damage",
    [
        lambda contents: contents[: len(contents) // 2],
        lambda contents: b"",
        lambda contents: b"\xff" * 100,
        lambda contents: contents[:8] + b"[" + contents[9:],
    ],
)
def test_damaged_files_are_refused(saved, damage, call_command, tmp_path):
    path = saved(state_dict("timm vit"))
    path.write_bytes(damage(path.read_bytes()))
    words = ("--dataset=digits", f"--model={VIT}", "--image_size=32", "--train_dir=new")
    result = call_command("train", *words, f"--init_from={path}")
    assert_one_line(result, 2, "is damaged, or not a safetensors file")
    assert not (tmp_path / "new").exists()
