"""Builds the sdist and the wheel, and uses them as a user who has nothing else.

    python tests/package.py [--keep=dist]

The wheel is made from the sdist, installed into a new environment, without extras and
then with that of the demo, and used in an empty folder. Tests of the sdist run in the
environment of this script, which is that of the extra dev. --keep names a folder for
the two files.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import venv
import zipfile

ROOT = pathlib.Path(__file__).parents[1]
TESTS = ("tests/test_release.py", "tests/test_golden.py", "tests/data/test_digits.py")
PICTURE = ROOT / "docs" / "demo.png"


def main() -> None:
    """Runs all checks; exits with an error if one fails."""
    parser = argparse.ArgumentParser(description="Builds and tries the package.")
    parser.add_argument("--keep", help="folder for the sdist and the wheel")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory(prefix="cifar_jax_package_") as temporary:
        folder = pathlib.Path(temporary)
        run(sys.executable, "-m", "build", f"--outdir={folder / 'dist'}", ROOT)
        (wheel,) = (folder / "dist").glob("*.whl")
        (sdist,) = (folder / "dist").glob("*.tar.gz")
        check_contents(wheel)
        check_sdist(sdist, folder)
        user = User(folder / "user", wheel)
        user.check_core()
        user.check_demo()
        if keep:
            shutil.copytree(folder / "dist", keep, dirs_exist_ok=True)
    print("the sdist and the wheel are fine")


def run(*words: object, status: int = 0, **options) -> subprocess.CompletedProcess:
    """Shows and runs a command; exits with an error if its status is unexpected."""
    shown = " ".join(pathlib.Path(str(word)).name for word in words)
    print("$", shown, flush=True)
    options = {"text": True, "capture_output": True, "timeout": 1_200} | options
    done = subprocess.run([str(word) for word in words], **options)
    if done.returncode != status:
        sys.exit(f"{shown} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def check_contents(wheel: pathlib.Path) -> None:
    """Checks that a wheel contains all of the package and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = run("git", "ls-files", "cifar_jax", cwd=ROOT).stdout.splitlines()
    if names ^ set(listed):
        sys.exit(f"the wheel and the repository differ: {sorted(names ^ set(listed))}")


def check_sdist(sdist: pathlib.Path, folder: pathlib.Path) -> None:
    """Runs some of the tests in an unpacked sdist."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (tree,) = (folder / "sdist").iterdir()
    environment = os.environ | {"PYTHONPATH": str(tree)}
    words = (sys.executable, "-m", "pytest", "-q", "-n", "0", *TESTS)
    run(*words, cwd=tree, env=environment)


class User:
    """A user with an empty folder and the wheel in a fresh environment."""

    def __init__(self, home: pathlib.Path, wheel: pathlib.Path):
        """Creates the environment and the folder."""
        venv.create(home, with_pip=True)
        self._wheel = wheel
        self._bin = home / ("Scripts" if os.name == "nt" else "bin")
        self._folder = home / "empty"
        self._folder.mkdir()
        self._environment = os.environ | {"XDG_CACHE_HOME": str(home / "cache")}
        self._environment.pop("PYTHONPATH", None)
        self._install("")

    def check_core(self) -> None:
        """Trains, evaluates and predicts without any extra."""
        shutil.copy(PICTURE, self._folder / "picture.png")
        self._call("cifar-jax", "--version")
        digits = ("--dataset=digits", "--max_steps=3", "--batch_size=32")
        self._call("cifar-jax", "train", *digits)
        self._call("cifar-jax", "eval", "--num_examples=100")
        self._call("cifar-jax", "predict", "picture.png")
        self._call("python", "-m", "cifar_jax.predict", "picture.png")
        done = self._call("cifar-jax", "predict", "--show", "picture.png", status=2)
        assert "pip install 'cifar-jax[report]'" in done.stderr

    def check_demo(self) -> None:
        """Starts the demo with the bundled network, opens its page, and stops it."""
        shutil.rmtree(self._folder / "cifar10_train")
        self._install("[demo]")
        self._call("cifar-jax", "predict", "--show", "picture.png")
        with subprocess.Popen(
            [str(self._program("cifar-jax")), "demo", "--port=0"],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            print("$ cifar-jax demo", flush=True)
            try:
                lines = iter(process.stdout or ())
                (address,) = next(line for line in lines if "http" in line).split()[1:2]
                with urllib.request.urlopen(address, timeout=60) as page:
                    assert "airbench94" in page.read().decode()
            finally:
                process.terminate()
        # Windows cannot ask a program to exit.
        assert os.name == "nt" or process.returncode == 0, process.returncode

    def _install(self, extras: str) -> None:
        pip = (self._program("python"), "-m", "pip", "install", "--quiet")
        run(*pip, f"{self._wheel}{extras}", cwd=self._folder, env=self._environment)

    def _call(self, *words: str, status: int = 0) -> subprocess.CompletedProcess:
        program, *rest = words
        where = {"cwd": self._folder, "env": self._environment}
        return run(self._program(program), *rest, status=status, **where)

    def _program(self, name: str) -> pathlib.Path:
        return self._bin / (f"{name}.exe" if os.name == "nt" else name)


if __name__ == "__main__":
    main()
