"""``python -m gsim``: compose the configuration, run the study, say where the results are."""


def main() -> None:
    """The entry point."""


if __name__ == "__main__":
    main()
