"""The command line that the examples share."""

import argparse
import sys
from pathlib import Path


def main(example, epochs):
    """Run an example, print its findings and draw its picture.

    Parameters
    ----------
    example : dict
        The globals of the script: its docstring, and its functions ``run(epochs, seed)``,
        ``report(findings)`` and ``draw(findings, path)``.
    epochs : int
        The default.
    """
    parser = argparse.ArgumentParser(description=example["__doc__"].partition("\n")[0])
    picture = Path(sys.argv[0]).with_suffix(".png").name
    parser.add_argument("--epochs", type=int, default=epochs, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--plot", default=picture, help="default: %(default)s")
    options = parser.parse_args()
    findings = example["run"](options.epochs, options.seed)
    example["report"](findings)
    example["draw"](findings, options.plot)
    print(f"\nThe picture: {options.plot}")
