"""``python -m fastact`` is the command ``fastact``."""

import sys

from fastact._command.cli import main

if __name__ == "__main__":
    sys.exit(main())
