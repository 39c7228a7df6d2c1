"""Tables on a terminal; plain text where the output is no terminal (Rich itself heeds NO_COLOR)."""

from rich import box
from rich.console import Console
from rich.table import Table

PLAIN_WIDTH = 160  # wide enough for Table 2, so that a log file holds unbroken lines


def show(table: Table, console: Console | None = None) -> None:
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=PLAIN_WIDTH, no_color=True, highlight=False)
        table.box = box.ASCII2
    console.print(table)
