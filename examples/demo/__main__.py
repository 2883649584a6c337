"""Starts the demo: ``python -m examples.demo``."""

import io
import signal
import sys


def main() -> None:
    """Run the command line; an interrupt ends it quietly, even while it is still loading."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Not every terminal has ticks and arrows.
    from examples.demo.run import command

    sys.exit(command(standalone_mode=True))


if __name__ == "__main__":
    main()
