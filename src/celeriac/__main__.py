"""``python -m celeriac``, and the console script `celeriac`."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    from celeriac.bin.main import main as run

    run()


if __name__ == "__main__":
    main()
