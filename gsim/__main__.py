"""``python -m gsim``: compose the configuration, run the study, say where the results are."""

import gc
import sys


def main() -> None:
    """The entry point."""
    from gsim.cli.entry import main as run

    status = run()
    # Python would walk all that was loaded and computed once more before it ends.
    gc.freeze()
    sys.exit(status)


if __name__ == "__main__":
    main()
