"""Keep a stack running for many test runs: `python -m tests.stack [--write FILE] [--brokers N]`.

Prints the environment variables that make pytest use it, then waits for Ctrl-C or SIGTERM:

    python -m tests.stack --write stack.env &
    . ./stack.env && pytest
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.stack.stack import ServersMissing, local


def main() -> int:
    """Exit status 0 after Ctrl-C or SIGTERM, 1 if no server can be started."""
    parser = argparse.ArgumentParser(prog="python -m tests.stack", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the variables to FILE")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    arguments = parser.parse_args()
    # SIGTERM must unwind the stack as Ctrl-C does; the default would skip every `finally`.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with local(arguments.brokers) as stack:
            if arguments.write is not None:
                write_whole(arguments.write, stack.exports())
            print(stack.exports(), end="", flush=True)
            print("# running; Ctrl-C ends it", file=sys.stderr, flush=True)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        return 0
    except ServersMissing as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    finally:
        # A file that names dead servers would make a later test run hang.
        if arguments.write is not None:
            arguments.write.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write `text` so that whoever waits for the file never reads a part of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
