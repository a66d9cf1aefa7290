"""``advkit visualize``: pictures of what networks attend to."""

from __future__ import annotations

import typer

app = typer.Typer(help="Draw what networks attend to.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def visualize() -> None:
    """Draw what networks attend to."""
