"""flag > environment > ./sage.toml > SAGE_HOME/sage.toml > default; and every mistake is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sage.config import Settings, config_files, example_toml, load_settings, origins, sage_home
from sage.errors import ConfigError

if TYPE_CHECKING:
    from conftest import Lockable

REPO = Path(__file__).resolve().parent.parent


def test_defaults(home: Path) -> None:
    settings = load_settings()
    assert settings.models.context == 4096
    assert settings.selector.hot_bonus == 1.2
    assert settings.models.offline is False
    assert config_files() == []
    assert sage_home() == home


def test_the_stronger_source_wins(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "sage.toml").write_text(
        "[models]\ncontext = 1000\nmax_tokens = 10\nthreads = 1\nsilence_timeout_s = 5\n"
    )
    assert load_settings().models.context == 1000
    (tmp_path / "sage.toml").write_text("[models]\ncontext = 2000\nmax_tokens = 20\nthreads = 2\n")
    assert load_settings().models.context == 2000
    monkeypatch.setenv("SAGE_MODELS__CONTEXT", "3000")
    monkeypatch.setenv("SAGE_MODELS__MAX_TOKENS", "30")
    assert load_settings().models.context == 3000
    models = load_settings(models={"context": 4000}).models
    assert (models.context, models.max_tokens, models.threads, models.silence_timeout_s) == (4000, 30, 2, 5.0)
    assert models.answer_timeout_s == 300.0


def test_origins_name_the_source(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "sage.toml").write_text("[models]\ncontext = 1000\nmax_tokens = 10\nthreads = 1\n")
    (tmp_path / "sage.toml").write_text("[models]\ncontext = 2000\nmax_tokens = 20\n")
    monkeypatch.setenv("SAGE_MODELS__CONTEXT", "3000")
    found = origins(load_settings())
    assert found["models.context"] == (3000, "SAGE_MODELS__CONTEXT")
    assert found["models.max_tokens"] == (20, "sage.toml")
    assert found["models.threads"] == (1, str(home / "sage.toml"))
    assert found["atp.grant"] == (30.0, "default")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models]\ncontxt = 5", "'models.contxt'.*Did you mean 'models.context'"),
        ("[modles]\ncontext = 5", "'modles.context'.*Did you mean 'models.context'"),
        ("context = 5", "Unknown key 'context'"),
        ("[models\n", "not valid TOML"),
        ("[models]\ncontext = 5", r"models\.context.*256"),
        ("[models]\ncontext = 'many'", r"models\.context.*many"),
        ("[selector]\nhot_bonus = 0.5", r"selector\.hot_bonus"),
        ("models = 5", "models"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "sage.toml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings()
    assert caught.value.mend


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sage.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings()


def test_an_unreadable_file_is_refused(lockable: Lockable, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lockable.folder / "sage.toml"
    path.write_text("")
    path.chmod(0)
    monkeypatch.setenv("SAGE_HOME", str(lockable.folder))
    monkeypatch.chdir("/")
    with lockable.locked(), pytest.raises(ConfigError, match="cannot be read"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SAGE_MODELS__CONTXT", "5000", "SAGE_MODELS__CONTXT.*Did you mean 'SAGE_MODELS__CONTEXT'"),
        ("SAGE_OFFLINE", "1", "Unknown variable SAGE_OFFLINE"),
        ("SAGE_MODELS_OFFLINE", "1", "Did you mean 'SAGE_MODELS__OFFLINE'"),
        ("SAGE_HOEM", "/x", "Did you mean 'SAGE_HOME'"),
        ("SAGE_MODELS__CONTEXT", "12", r"models\.context"),
        ("SAGE_MODELS__CONTEXT", "many", r"models\.context.*many"),
        ("SAGE_MODELS__OFFLINE", "maybe", r"models\.offline"),
    ],
)
def test_a_wrong_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings()
    assert "sage config schema" in caught.value.mend


def test_a_wrong_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"irp\.max_steps"):
        load_settings(irp={"max_steps": 0})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().models.context = 5  # type: ignore[misc]


def test_sage_home_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGE_HOME")
    assert sage_home().is_absolute()
    assert sage_home().name == "sage"


def test_sage_home_is_absolute_and_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_HOME", "there")
    assert sage_home() == tmp_path / "there"
    monkeypatch.setenv("SAGE_HOME", "~/there")
    assert sage_home() == Path.home() / "there"


def test_every_key_has_a_meaning() -> None:
    for section in Settings.model_fields.values():
        for key, field in section.annotation.model_fields.items():  # type: ignore[union-attr]
            assert field.description, key


def test_the_example_file_is_up_to_date() -> None:
    """Mend: sage config schema --toml > sage.example.toml"""
    assert (REPO / "sage.example.toml").read_text(encoding="utf-8") == example_toml()


def test_the_example_is_the_defaults(tmp_path: Path) -> None:
    """Commented, it changes nothing; with the comments removed, it says what the defaults are."""
    (tmp_path / "sage.toml").write_text(example_toml())
    assert load_settings() == Settings.model_construct()
    uncommented = re.sub(r"^# (\w+ = )", r"\1", example_toml(), flags=re.MULTILINE)
    assert "\ncontext = 4096\n" in uncommented
    (tmp_path / "sage.toml").write_text(uncommented)
    assert load_settings().model_dump() == Settings.model_construct().model_dump()


def test_a_variable_of_another_program_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_ROOT", "/opt/sagemath")
    load_settings()
