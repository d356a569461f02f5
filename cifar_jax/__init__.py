"""TensorFlow's CIFAR-10 tutorial as a functional JAX/Flax research codebase.

The commands are `python -m cifar_jax.train`, `.eval`, `.predict`, `.compare`, `.study`,
`.export` and `.demo`. Experiments can do the same from Python; importing the package is
cheap:

    config = Config(max_steps=1000, train_dir=None)
    dataset = load_data("cifar10")
    network = fit(config, dataset).trained
    print(evaluate(network, dataset.test))

    settings      Config
    data          load_data, Dataset, Split, read_picture
    training      fit, fit_many, FitResult, Hook, Moment
    runs          read_run, Run, load_trained, load_state, save_run, load_exported
    networks      Trained, evaluate, classify, predict_logits, features
    pure parts    build_program, Program, init_state, TrainState, Batch, train_step,
                  forward, Forward, eval_step, inspect, compiler_options
    your own      register, Network, Block, create_model
    errors        UserError, RunError, Stopped

`help(cifar_jax.Config)` explains every setting, and `help` of any other name that name.
"""

from etils import epy

__version__ = "0.1.0"

# Imported on first use: JAX and Flax take seconds to load, and the commands handle
# Ctrl-C before that.
with epy.lazy_api_imports(globals()):
    from cifar_jax.config.config import Config
    from cifar_jax.data import Dataset, Split
    from cifar_jax.data import load as load_data
    from cifar_jax.data.folder.pictures import read_picture
    from cifar_jax.devices.cpu import compiler_options
    from cifar_jax.errors import RunError, Stopped, UserError
    from cifar_jax.evaluation.forward import eval_step
    from cifar_jax.evaluation.inference import (
        Trained,
        classify,
        evaluate,
        features,
        predict_logits,
    )
    from cifar_jax.models import Block, Network
    from cifar_jax.models import create as create_model
    from cifar_jax.plugins import register
    from cifar_jax.runs.run_dir import Run
    from cifar_jax.runs.run_dir import read as read_run
    from cifar_jax.training.batch import Batch
    from cifar_jax.training.fit import FitResult, fit
    from cifar_jax.training.fit_many import fit_many
    from cifar_jax.training.inspection import inspect
    from cifar_jax.training.loop import Hook, Moment
    from cifar_jax.training.program import Program
    from cifar_jax.training.program import build as build_program
    from cifar_jax.training.saved import load_state, save_run
    from cifar_jax.training.steps import Forward, forward, train_step
    from cifar_jax.training.train_state import TrainState
    from cifar_jax.training.train_state import create as init_state
    from cifar_jax.training.trained import from_export as load_exported
    from cifar_jax.training.trained import load as load_trained

__all__ = [
    "Batch",
    "Block",
    "Config",
    "Dataset",
    "FitResult",
    "Forward",
    "Hook",
    "Moment",
    "Network",
    "Program",
    "Run",
    "RunError",
    "Split",
    "Stopped",
    "TrainState",
    "Trained",
    "UserError",
    "__version__",
    "build_program",
    "classify",
    "compiler_options",
    "create_model",
    "eval_step",
    "evaluate",
    "features",
    "fit",
    "fit_many",
    "forward",
    "init_state",
    "inspect",
    "load_data",
    "load_exported",
    "load_state",
    "load_trained",
    "predict_logits",
    "read_picture",
    "read_run",
    "register",
    "save_run",
    "train_step",
]
