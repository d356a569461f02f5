"""Lists the commands: python -m cifar_jax."""

import runpy
import sys

# In order of use.
COMMANDS = {
    "train": "train a network, or resume a run",
    "eval": "evaluate a run, on all test images and in a report",
    "predict": "classify pictures",
    "compare": "compare runs, in a table and a plot",
    "study": "compare settings over seeds, or search for them",
    "export": "export a network for use elsewhere",
    "demo": "try out a network on a local page",
}


def main() -> None:
    """Runs the named command, or lists all commands."""
    from cifar_jax import __version__

    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        del sys.argv[0]
        runpy.run_module(f"cifar_jax.{name}", run_name="__main__", alter_sys=True)
    elif name == "--version":
        print(f"cifar_jax {__version__}")
    elif name in ("--help", "-h", "help"):
        lines = [f"    {name:<10}{text}" for name, text in COMMANDS.items()]
        print("Usage: cifar-jax COMMAND, or python -m cifar_jax.COMMAND\n")
        print("\n".join(lines))
        print("\nCOMMAND --help explains one, cifar-jax --version prints the version.")
    else:
        print(
            f"error: there is no command {name!r}; choose from {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
