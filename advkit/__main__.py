"""The ``advkit`` executable."""

from __future__ import annotations

from advkit.commands.app import main

if __name__ == "__main__":
    main()
