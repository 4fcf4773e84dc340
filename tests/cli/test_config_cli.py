"""``sage config``: what is in force and where it came from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from sage.cli.config import app
from sage.config import example_toml
from sage.errors import ConfigError


def invoke(*args: str) -> Result:
    return CliRunner().invoke(app, args, catch_exceptions=False)


def test_show_is_every_key_and_is_toml(home: Path) -> None:
    (home / "sage.toml").write_text("[models]\noffline = true\n")
    values = tomllib.loads(invoke("show").stdout)
    assert values["models"]["offline"] is True
    assert values["models"]["context"] == 4096
    assert set(values) == {"atp", "metabolism", "selector", "irp", "memory", "models", "events"}


def test_show_origin(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "sage.toml").write_text("[models]\noffline = true\n")
    monkeypatch.setenv("SAGE_ATP__GRANT", "5")
    lines = {line.split()[0]: line for line in invoke("show", "--origin").stdout.splitlines()}
    assert lines["models.offline"].endswith(f"# {home / 'sage.toml'}")
    assert lines["atp.grant"].endswith("# SAGE_ATP__GRANT")
    assert lines["atp.capacity"].endswith("# default")


def test_show_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_ATP__GRANT", "5")
    assert json.loads(invoke("show", "--json").stdout)["atp.grant"] == 5.0
    assert json.loads(invoke("show", "--json", "--origin").stdout)["atp.grant"] == {
        "value": 5.0,
        "origin": "SAGE_ATP__GRANT",
    }


def test_show_refuses_a_wrong_config(home: Path) -> None:
    (home / "sage.toml").write_text("[models]\nofline = true\n")
    with pytest.raises(ConfigError, match=r"Did you mean 'models\.offline'"):
        invoke("show")


def test_schema_is_json_schema() -> None:
    schema = json.loads(invoke("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"models": {"context": 4096}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"models": {"context": 5}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"models": {"contxt": 4096}}, schema)


def test_schema_toml_is_the_example() -> None:
    assert invoke("schema", "--toml").stdout == example_toml()


def test_path(home: Path, tmp_path: Path) -> None:
    assert f"home: {home}" in invoke("path").stdout
    assert "file: none" in invoke("path").stdout
    for folder in (home, tmp_path):
        (folder / "sage.toml").write_text("")
    files = [str(tmp_path / "sage.toml"), str(home / "sage.toml")]
    assert invoke("path").stdout.splitlines() == [f"home: {home}", *(f"file: {file}" for file in files)]
    assert json.loads(invoke("path", "--json").stdout) == {"home": str(home), "files": files}
