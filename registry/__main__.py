"""``python -m registry``: the registry's commands without the gateway's."""

import typer

from registry.cli import add_commands, run

app = typer.Typer(help="Meshway's registry.", no_args_is_help=True, pretty_exceptions_enable=False)
add_commands(app)

if __name__ == "__main__":
    run(app)
