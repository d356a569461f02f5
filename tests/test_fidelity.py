"""Tests the comparison with TensorFlow's tutorial, for which a script stands in."""

import json

import pytest
from run_experiments import call, run_experiment

from cifar_jax import UserError
from experiments.accuracy import fidelity
from experiments.harness import common, machine

SCRIPT = """#!/bin/sh
echo "$@" >> {calls}
echo "using TensorFlow 2.99"
echo "step 0, loss = 4.6796"
echo "step 10, loss = 4.5997"
echo "precision @ 1, averaged parameters = 0.2686"
echo "precision @ 1, raw parameters = 0.2532"
"""
DATA = {"source": "the data", "fingerprint": "0"}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Makes run 0 in TensorFlow with flags; returns its results and all calls."""
    calls, python = tmp_path / "calls.txt", tmp_path / "python"
    python.write_text(SCRIPT.format(calls=calls))
    python.chmod(0o755)
    monkeypatch.setattr(machine, "isolated", lambda *_: None)  # Writes the records.

    def run(*flags: str, data: dict[str, str] = DATA) -> tuple[dict, list[str]]:
        found = []

        def main(argv: list[str]) -> None:
            found.append(fidelity.by_tensorflow(str(python), 0, tmp_path, data))

        out = f"--out_dir={tmp_path / 'out'}"
        call(lambda: common.run(main, fidelity.define_flags), out, *flags)
        return found[0], calls.read_text().splitlines()

    return run


def test_a_run_in_tensorflow_is_made_once(run, tmp_path):
    figures, [command] = run("--max_steps=20")
    assert figures == {
        "precision": 0.2686,
        "precision_raw": 0.2532,
        "step_0_loss": 4.6796,
        "loss": [(0, 4.6796), (10, 4.5997)],
    }
    assert "--max_steps=20" in command
    assert f"--records={tmp_path / 'train_eval'}" in command
    assert f"--test_records={tmp_path / 'test'}" in command
    again, commands = run("--max_steps=20")
    assert json.dumps(again) == json.dumps(figures)
    assert commands == [command]


@pytest.mark.parametrize(
    ("steps", "data"), [(30, DATA), (20, DATA | {"fingerprint": "1"})]
)
def test_a_run_with_other_settings_or_data_is_not_taken(run, capsys, steps, data):
    run("--max_steps=20")
    with pytest.raises(SystemExit):
        run(f"--max_steps={steps}", data=data)
    said = capsys.readouterr().err
    assert "has different settings or data; pass a different --out_dir" in said


def test_a_program_must_be_known(capsys):
    with pytest.raises(SystemExit) as exit_:
        call(
            lambda: common.run(fidelity.main, fidelity.define_flags),
            "--programs=float32,Theano",
        )
    assert exit_.value.code == UserError.exit_code
    assert "--programs: unknown {'Theano'}" in capsys.readouterr().err


@pytest.mark.slow
def test_ours_alone(tmp_path):
    text = run_experiment(
        "accuracy.fidelity",
        *("--quick", "--dataset=digits", "--programs=float32,bfloat16"),
        *(f"--out_dir={tmp_path / 'out'}", f"--results_dir={tmp_path}"),
        tmp_path=tmp_path,
    )
    record = json.loads((tmp_path / "fidelity.json").read_text())
    assert list(record["programs"]) == ["float32", "bfloat16"]
    [run] = record["programs"]["float32"]
    assert [step for step, _ in run["loss"]] == [0, 1, 2, 3]
    assert f"{run['precision']:.4f} (n 1)" in text
    assert (tmp_path / "fidelity.png").stat().st_size > 10_000
