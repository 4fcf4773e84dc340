"""``sage config``: which settings are in force, where they came from, and which there are.

Owns: how settings are shown. Must not know: what any of them does.
"""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    name="config", help="Show the settings, their origin and their schema.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    json: Json = False,
) -> None:
    """Every setting and its value."""
    from sage.cli.render import emit_json
    from sage.config import load_settings, origins, toml_value

    found = origins(load_settings())
    if json and origin:
        emit_json({key: {"value": value, "origin": source} for key, (value, source) in found.items()})
    elif json:
        emit_json({key: value for key, (value, _) in found.items()})
    else:
        keys = max(len(key) for key in found)
        values = max(len(toml_value(value)) for value, _ in found.values())
        for key, (value, source) in found.items():
            line = f"{key:<{keys}} = {toml_value(value):<{values}}"
            typer.echo(f"{line}  # {source}" if origin else line.rstrip())


@app.command()
def schema(
    toml: Annotated[
        bool, typer.Option("--toml", help="A commented sage.toml with every key instead of JSON schema.")
    ] = False,
) -> None:
    """Every setting there is, with its type, range, default and meaning."""
    from sage.cli.render import emit_json
    from sage.config import Settings, example_toml

    if toml:
        typer.echo(example_toml(), nl=False)
    else:
        emit_json(Settings.model_json_schema())


@app.command()
def path(json: Json = False) -> None:
    """SAGE_HOME, and the files that are read."""
    from sage.cli.render import emit_json
    from sage.config import config_files, sage_home

    home, files = sage_home(), [file.absolute() for file in config_files()]
    if json:
        emit_json({"home": str(home), "files": [str(file) for file in files]})
        return
    typer.echo(f"home: {home}")
    for file in files:
        typer.echo(f"file: {file}")
    if not files:
        typer.echo(f"file: none; sage config schema --toml > {home / 'sage.toml'} makes one")
