"""Reads back what W&B, in offline mode, and MLflow, in a local file, record."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import wandb_files
import wandb_server
from helpers import DIGITS, assert_one_line, environment, read_until, started

from cifar_jax import UserError
from cifar_jax.errors import Stopped
from cifar_jax.writers import WRITERS, Histogram, RunInfo, Summary, Writers, jsonl
from cifar_jax.writers.tracker import Tracker

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("wandb")

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning"
)
BOTH = "wandb, mlflow"


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """Keeps both trackers, and the user's logins, off the network."""
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for name, value in {
        "HOME": str(tmp_path),
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


def runs_of_mlflow() -> list:
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("cifar_jax")
    return client.search_runs([experiment.experiment_id])


def history(run, name: str) -> list[tuple[int, float]]:
    found = mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
    return [(metric.step, metric.value) for metric in found]


def artifacts(run, folder: str) -> list[str]:
    found = mlflow.MlflowClient().list_artifacts(run.info.run_id, folder)
    return [pathlib.Path(artifact.path).name for artifact in found]


def rows_of(folders: list[wandb_files.OfflineRun], name: str) -> list:
    return [
        (row["step"], row[name]) for one in folders for row in one.rows if name in row
    ]


@pytest.mark.slow
def test_a_killed_run_is_continued_and_evaluated(tmp_path, run_command):
    run = tmp_path / "run"
    flags = [*DIGITS, "--save_frequency=20", "--writers=jsonl, wandb, mlflow"]
    # Training waits for what is written at each summary.
    flags += ["--log_frequency=10", "--summary_frequency=10"]
    with started(tmp_path, "train", *flags, "--max_steps=1000000") as process:
        lines = read_until(process, "step 50,")
        process.send_signal(signal.SIGKILL)
    folder = tmp_path.resolve() / "run" / "wandb"
    assert any(line.startswith(f"W&B is offline: {folder}/") for line in lines)
    assert any(line.startswith("MLflow: run ") for line in lines)
    before = max(int(path.name) for path in (run / "checkpoints").glob("[0-9]*"))
    done = run_command("train", *flags, f"--max_steps={before + 60}")
    assert done.returncode == 0, done.stderr
    assert "resumed from step" in done.stdout
    assert done.stderr == ""
    done = run_command("eval", "--checkpoint_dir=run", "--report=report")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""

    losses = {
        record["step"]: record["total_loss_raw"]
        for record in jsonl.read_training(run / "log.jsonl")
    }
    precision = jsonl.read_evaluations(run / "eval" / "test.jsonl")[-1]
    own = before + 60, precision["precision_at_1"]
    saved = json.loads((run / "config.json").read_text())

    killed, resumed = map(wandb_files.read, sorted(run.glob("wandb/offline-run-*")))
    [folder] = run.glob("eval/wandb/offline-run-*")
    evaluated = wandb_files.read(folder)
    parts = [killed, resumed, evaluated]
    assert {part.id for part in parts} == {saved["id"]}
    assert {(part.name, part.project) for part in parts} == {("run", "cifar_jax")}
    assert {part.step_metrics["*"] for part in parts} == {"step"}
    assert (resumed.exit_code, evaluated.exit_code) == (0, 0)
    assert resumed.config["learning_rate"] == saved["config"]["learning_rate"]
    assert resumed.config["max_steps"] == before + 60
    # The steps that the resumed run repeats have the same values.
    found = rows_of([killed], "log/total_loss_raw")
    assert found[0] == (0, losses[0])
    assert set(found) <= losses.items()
    found = rows_of([resumed], "log/total_loss_raw")
    assert dict(found) == {k: v for k, v in losses.items() if k >= before}
    assert own in rows_of([evaluated], "test/precision_at_1")
    pictures = {path.name.split("_1_")[0] for path in folder.rglob("test/*.png")}
    assert pictures >= {"calibration", "confusion_matrix", "training"}
    [page] = folder.rglob("*.html")
    assert page.read_bytes() == (tmp_path / "report" / "report.html").read_bytes()

    [tracked] = runs_of_mlflow()
    assert (tracked.info.status, tracked.info.run_name) == ("FINISHED", "run")
    assert float(tracked.data.params["learning_rate"]) == 0.1
    assert tracked.data.params["max_steps"] == "1000000"
    assert tracked.data.tags["max_steps"] == str(before + 60)
    found = history(tracked, "log/total_loss_raw")
    assert dict(found[::-1]) == dict(found) == losses
    assert own in history(tracked, "test/precision_at_1")
    images = {name.split("+")[0] for name in artifacts(tracked, "images")}
    assert images >= {"images~image~0", "test~calibration", "test~confusion_matrix"}
    assert artifacts(tracked, "test") == [f"report_{before + 60}.html"]


def test_everything_of_a_summary_is_recorded(tmp_path):
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    summary = Summary(
        "eval/test",
        7,
        {"precision_at_1": 0.5, "odd name (%)": float("nan")},
        histograms={"kernel": Histogram.from_values(np.arange(8.0))},
        images={"image/0": image},
        pages={"report": "<p>it"},
    )
    lines: list[str] = []
    run = RunInfo(tmp_path, "abc", {"seed": 3, "model": "small"}, start=0)
    with Writers(BOTH, tmp_path, run, lines.append) as writers:
        writers.write(summary)
        writers.write(Summary("log", 3, {"loss": 2.5}))
    [folder] = tmp_path.glob("wandb/offline-run-*")
    offline = wandb_files.read(folder)
    first, second = offline.rows
    assert (first["step"], first["test/precision_at_1"]) == (7, 0.5)
    assert sum(first["test/kernel/values"]) == 8
    assert (second["step"], second["log/loss"]) == (3, 2.5)
    assert offline.config["seed"] == 3
    [tracked] = runs_of_mlflow()
    assert tracked.data.params == {"seed": "3", "model": "small"}
    assert history(tracked, "test/precision_at_1") == [(7, 0.5)]
    assert "test/odd name ___" in tracked.data.metrics
    assert history(tracked, "log/loss") == [(3, 2.5)]
    assert lines == [
        f"W&B is offline: {folder}",
        f"MLflow: run {tracked.info.run_id} in {mlflow.get_tracking_uri()}",
    ]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Stopped(signal.SIGINT, "after step 3"), "KILLED", 130),
        (ZeroDivisionError(), "FAILED", 1),
    ],
)
def test_a_run_that_ends_early_is_marked(tmp_path, error, status, code):
    with (
        pytest.raises(type(error)),
        Writers(BOTH, tmp_path, RunInfo(tmp_path, "abc", start=0)),
    ):
        raise error
    assert runs_of_mlflow()[0].info.status == status
    [folder] = tmp_path.glob("wandb/offline-run-*")
    assert wandb_files.read(folder).exit_code == code
    # A later evaluation changes nothing about that.
    with Writers("mlflow", tmp_path, RunInfo(tmp_path, "abc")) as writers:
        writers.write(Summary("test", 3, {"precision_at_1": 0.5}))
    [tracked] = runs_of_mlflow()
    assert tracked.info.status == status
    assert history(tracked, "test/precision_at_1") == [(3, 0.5)]


def test_a_run_that_starts_again_in_the_same_folder_is_another(tmp_path):
    for name in ("first", "second"):
        with Writers("mlflow", tmp_path, RunInfo(tmp_path, name, start=0)):
            pass
    assert len(runs_of_mlflow()) == 2


def test_a_run_keeps_its_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    run = RunInfo(tmp_path / "run", "abc", start=0)
    (tmp_path / "elsewhere").mkdir()
    for folder in (tmp_path, tmp_path / "elsewhere"):
        monkeypatch.chdir(folder)
        with Writers("mlflow", run.path, run):
            pass
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_store_without_the_run_is_refused(tmp_path, monkeypatch):
    run = RunInfo(tmp_path, "abc", start=0)
    with Writers("mlflow", tmp_path, run):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    with (
        pytest.raises(UserError, match=r"other\.db: .* or delete .*mlflow\.json"),
        Writers("mlflow", tmp_path, run),
    ):
        pass
    (tmp_path / "mlflow.json").write_text("{")
    with (
        pytest.raises(UserError, match=r"mlflow\.json is damaged; delete it"),
        Writers("mlflow", tmp_path, run),
    ):
        pass


def test_wandb_leaves_a_run_in_training_alone(tmp_path):
    lines: list[str] = []
    run = RunInfo(tmp_path, "abc", is_training=True)
    with Writers("wandb", tmp_path, run, lines.append) as writers:
        writers.write(Summary("test", 3, {"precision_at_1": 0.5}))
    assert "this evaluation is not recorded there" in lines[0]
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path, capsys, monkeypatch):
    class Broken(Tracker):
        name, title = "json", "Broken"
        calls = 0

        def start(self, directory, run):
            return "started"

        def record(self, summary):
            Broken.calls += 1
            raise ConnectionResetError(104, "Connection reset by peer")

        def finish(self, error):
            pytest.fail("there is nothing to finish")

    monkeypatch.setitem(WRITERS, "broken", Broken)
    with Writers("broken, jsonl", tmp_path) as writers:
        writers.write(Summary("log", 3, {"loss": 2.5}))
        writers.write(Summary("log", 4, {"loss": 1.5}))
    assert Broken.calls == 1
    assert len(jsonl.read_training(tmp_path / "log.jsonl")) == 2
    [warning] = capsys.readouterr().err.splitlines()
    assert warning == (
        "warning: Broken failed at step 3 and gets nothing more from this process: "
        "[Errno 104] Connection reset by peer"
    )


@pytest.mark.parametrize(
    ("writer", "variables", "words"),
    [
        ("wandb", {"WANDB_MODE": "online"}, ["no API key", "WANDB_MODE=offline"]),
        (
            "mlflow",
            {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
            ["the store http://127.0.0.1:9: it does not answer", "MLFLOW_TRACKING_URI"],
        ),
        (
            "mlflow",
            {"MLFLOW_TRACKING_URI": "sqlite:////dev/null/mlflow.db"},
            ["cannot use the store sqlite:////dev/null/mlflow.db"],
        ),
    ],
)
def test_a_tracker_that_cannot_start_is_one_line(
    tmp_path, run_command, writer, variables, words
):
    variables = environment(tmp_path) | os.environ | variables
    flags = [*DIGITS, "--max_steps=2", f"--writers=jsonl, {writer}"]
    done = run_command("train", *flags, env=variables)
    assert_one_line(done, 2, f"--writers={writer}", *words)
    assert "compiling" not in done.stdout
    assert not (tmp_path / "run" / "config.json").exists()


ONLINE = """
import pathlib, sys
from cifar_jax.writers import RunInfo, Summary, Writers

path, start = pathlib.Path("run"), int(sys.argv[1])
run = RunInfo(path, "abc", {"max_steps": start}, start)
with Writers("wandb", path, run) as writers:
    for step in range(start, start + 30, 10):
        writers.write(Summary("log", step, {"loss": step / 8}))
"""


def test_a_run_online_is_continued(tmp_path):
    with wandb_server.running() as server:
        variables = {"WANDB_MODE": "online", "WANDB_BASE_URL": server.url}
        variables["WANDB_API_KEY"] = "0" * 40
        for start in (0, 10):
            done = subprocess.run(
                [sys.executable, "-c", ONLINE, str(start)],
                env=os.environ | variables,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
            assert "warning: W&B" not in done.stderr
            link = f"{server.url}/me/cifar_jax/runs/abc"
            assert done.stdout == f"W&B: {link}\n"
            kept = json.loads((tmp_path / "run" / "wandb.json").read_text())
            assert kept == {"run": "abc", "id": "abc", "link": link}
    rows = [(row["step"], row["log/loss"]) for row in server.rows["abc"]]
    steps = [0, 10, 20, 10, 20, 30]
    assert rows == [(step, step / 8) for step in steps]
    assert server.exit_codes == [0, 0]
