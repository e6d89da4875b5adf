"""``python -m gsim``: compose the configuration, run the study, say where the results are."""

import sys


def main() -> None:
    """The entry point."""
    from gsim.study.entry import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
