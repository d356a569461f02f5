"""Tests the commands on the real photographs; only run by .ci/run, not by default."""

import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from cifar_jax import load_data
from cifar_jax.runs import summaries

UNPACK = pathlib.Path(__file__).parents[2] / "shared" / "cifar10" / "unpack.py"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not UNPACK.exists(), reason="../shared is not there"),
]


def test_train_eval_and_predict(tmp_path):
    def run(*words: str) -> str:
        command = [sys.executable, *words]
        print("+", " ".join(command[1:]), flush=True)
        result = subprocess.run(
            command, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True
        )
        print(result.stdout, flush=True)
        return result.stdout

    run(str(UNPACK), "data")
    train = ("-m", "cifar_jax.train", "--data_dir=data", "--train_dir=run")
    log = run(*train, "--max_steps=150", "--validation_size=5000")
    assert "45000 training and 10000 test images from official CIFAR-10" in log
    assert "====" not in log  # No banner.
    run(*train, "--max_steps=300", "--validation_size=5000")
    for split in ("test", "validation"):
        run("-m", "cifar_jax.eval", "--checkpoint_dir=run", f"--eval_data={split}")

    records = summaries.read_training(tmp_path / "run" / "train.jsonl")
    assert [record["step"] for record in records] == [0, 100, 200]
    assert records[0]["total_loss_raw"] == pytest.approx(4.68, abs=0.05)
    for split, count in (("test", 10_000), ("validation", 5_000)):
        path = tmp_path / "run" / "eval" / f"{split}.jsonl"
        (record,) = summaries.read_evaluations(path)
        assert record["num_examples"] == count
        # Chance level is 0.1; this seed reached 0.47.
        assert record["precision_at_1"] > 0.40

    images = load_data("cifar10", tmp_path / "data").test.images
    Image.fromarray(images[0]).resize((300, 200)).save(tmp_path / "photo.jpg")
    table = run("-m", "cifar_jax.predict", "--checkpoint_dir=run", "photo.jpg")
    assert table.startswith("photo.jpg\n")
