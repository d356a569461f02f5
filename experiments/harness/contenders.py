"""The training programs that benchmarks compare: cifar_jax and its peers."""

import dataclasses
import importlib.util
import pathlib
import sys
import tempfile
from typing import Any

from absl import flags

from cifar_jax import UserError
from experiments.harness import children

OURS = "cifar_jax"
OURS_BF16 = "cifar_jax bf16"
PEERS = pathlib.Path(__file__).parent / "peers"
TENSORFLOW = str(PEERS / "tensorflow_tutorial.py")
PYTORCH = str(PEERS / "pytorch_training.py")

# Our settings for each network of peers/pytorch_networks.py.
MODELS: dict[str, dict[str, Any]] = {
    "tutorial": {"recipe": "tutorial"},
    "resnet18": {"recipe": "resnet18"},
    "vgg16_bn": {"recipe": "vgg16_bn"},
    "mobilenet": {"recipe": "resnet18", "model": "mobilenet"},
    "resnext29": {"recipe": "resnet18", "model": "resnext29"},
    "cuda_convnet_18pct": {"recipe": "cuda_convnet_18pct"},
    "cuda_convnet_11pct": {"recipe": "cuda_convnet_11pct"},
    "airbench94_sgd": {"recipe": "airbench94_sgd"},
}
# Options of the PyTorch peer for each program, all in float32.
PYTORCH_OPTIONS = {
    "PyTorch": [],
    "PyTorch channels_last": ["--channels_last"],
    "PyTorch compile": ["--compile"],
}
# Programs that run by default for networks other than the tutorial's.
FEW = (OURS, *PYTORCH_OPTIONS)

FLAGS = flags.FLAGS


@dataclasses.dataclass
class Contender:
    """A training program and the results of its runs, one per round."""

    name: str
    command: list[str]
    using: str = ""
    first_loss: float = float("nan")
    last_loss: float = float("nan")
    peak_bytes: int = 0
    failure: str | None = None
    examples_per_sec: list[float] = dataclasses.field(default_factory=list)

    def run(self) -> None:
        """Runs one round, unless the program has already failed."""
        if self.failure is not None:
            return
        with tempfile.TemporaryDirectory() as train_dir:
            own = [f"--train_dir={train_dir}/run"] if self.name.startswith(OURS) else []
            try:
                child = children.run_child(self.command + own)
            except children.ChildFailedError as error:
                self.failure = str(error)
                print(f"  {self.name}: skipped, {error}", flush=True)
                return
        log = child.log
        rate = children.throughput(
            child, FLAGS.batch_size, FLAGS.from_step, FLAGS.steps
        )
        self.examples_per_sec.append(rate)
        self.peak_bytes = max(self.peak_bytes, child.peak_bytes)
        self.first_loss = log[0][1]
        self.last_loss = log[FLAGS.from_step + FLAGS.steps][1]
        said = [text[6:] for _, text in child.lines if text.startswith("using ")]
        self.using = ", ".join(said)
        print(f"  {self.name}: {rate:.1f} examples/s", flush=True)


def programs(models: list[str], records: str) -> dict[str, list[Contender]]:
    """Returns the programs to run for each network, in table order."""
    check_models(models)
    tensorflow = interpreter(FLAGS.tensorflow_python, "tensorflow")
    pytorch = interpreter(FLAGS.pytorch_python, "torch")
    known = {model: commands(model, records, tensorflow, pytorch) for model in models}
    names = list(dict.fromkeys(name for group in known.values() for name in group))
    if unknown := set(FLAGS.programs) - set(names):
        raise UserError(f"--programs: unknown {unknown}; choose from {names}")
    found = {}
    for model, group in known.items():
        default = list(group) if model == "tutorial" else FEW
        wanted = {OURS, *(FLAGS.programs or default)}
        found[model] = [
            Contender(name, group[name]) for name in group if name in wanted
        ]
    return found


def check_models(models: list[str]) -> None:
    """Raises UserError if a network is unknown."""
    if unknown := set(models) - set(MODELS):
        raise UserError(f"--models: unknown {unknown}; choose from {list(MODELS)}")


def commands(
    model: str, records: str, tensorflow: str | None, pytorch: str | None
) -> dict[str, list[str]]:
    """Returns the commands of all programs available for a network, by name.

    Args:
        model: The name of the network.
        records: The file of training images.
        tensorflow: A Python interpreter with TensorFlow, or None.
        pytorch: A Python interpreter with PyTorch, or None.
    """
    sizes = [
        f"--batch_size={FLAGS.batch_size}",
        # One extra step, since the first one is step 0.
        f"--max_steps={FLAGS.from_step + FLAGS.steps + 1}",
    ]
    settings = [f"--{name}={value}" for name, value in MODELS[model].items()]
    ours = children.train_command(*settings, *sizes, log_frequency=FLAGS.log_frequency)
    found = {
        OURS: ours,
        OURS_BF16: [*ours, "--use_fp16"],
        "cifar_jax plain": [*ours, "--ops=plain"],
        "cifar_jax plain bf16": [*ours, "--ops=plain", "--use_fp16"],
    }
    sizes += [f"--records={records}", f"--log_frequency={FLAGS.log_frequency}"]
    if tensorflow and model == "tutorial":
        peer = [tensorflow, TENSORFLOW, *sizes]
        found |= {"TensorFlow": peer, "TensorFlow bf16": [*peer, "--bf16"]}
    if pytorch:
        peer = [pytorch, PYTORCH, *sizes, f"--model={model}"]
        found |= {name: [*peer, *own] for name, own in PYTORCH_OPTIONS.items()}
        found["PyTorch bf16"] = [*peer, "--channels_last", "--bf16"]
    return found


def interpreter(given: str, module: str) -> str | None:
    """Returns the given interpreter, else this one if it has the module, else None."""
    if given or importlib.util.find_spec(module):
        return given or sys.executable
    print(
        f"skipping {module}: not installed; pass --tensorflow_python or "
        "--pytorch_python"
    )
    return None
