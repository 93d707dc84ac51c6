"""``python -m logflume``"""

from __future__ import annotations

from logflume.cli import main

# a spawned worker imports this module too, under another name
if __name__ == "__main__":
    main(prog_name="logflume")
