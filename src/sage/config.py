"""Settings: one ``sage.toml``, overridden by ``SAGE_*`` variables, overridden by flags.

Owns: every key, its default, its meaning, and where a value came from.
Must not know: who reads a key. This is the only module (with the gateway) that uses pydantic.

Order, strongest first: flag > ``SAGE_SECTION__KEY`` > ``./sage.toml`` > ``SAGE_HOME/sage.toml`` > default.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sage.errors import ConfigError, did_you_mean
from sage.types import Form, PriceUnit

__all__ = [
    "AtpSettings",
    "EventSettings",
    "IrpSettings",
    "MemorySettings",
    "MetabolismSettings",
    "ModelSettings",
    "SelectorSettings",
    "Settings",
    "config_files",
    "example_toml",
    "load_settings",
    "origins",
    "sage_home",
    "toml_value",
]

ENV_PREFIX = "SAGE_"
OUTSIDE_SETTINGS = frozenset({"SAGE_HOME"})
"""``SAGE_HOME`` says where the settings are, so it cannot be one of them."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AtpSettings(_Section):
    """The budget. 1 ATP = 1 second of one worker = 1 GiB read from storage = 10 joules."""

    capacity: float = Field(100.0, gt=0, description="The balance never rises above this many ATP.")
    recovery_per_s: float = Field(
        1.0, ge=0, description="ATP that come back each second: 1 lets one worker run all the time."
    )
    grant: float = Field(
        30.0,
        gt=0,
        description="The most ATP set aside for one request of usual salience in WAKE (FOCUS: twice, CRISIS: "
        "a fifth). No further draft is begun beyond them; one that takes longer than it should is charged "
        "all the same.",
    )


class MetabolismSettings(_Section):
    """The state of the whole system: WAKE, FOCUS, REST, DREAM or CRISIS (sage state shows it)."""

    state: Literal["auto", "WAKE", "FOCUS", "REST", "DREAM", "CRISIS"] = Field(
        "auto", description='"auto" follows load, pressure and ATP; the name of a state holds it.'
    )
    focus_salience: float = Field(
        0.7, ge=0, le=1, description="A request of this salience is focused on, while there are ATP."
    )
    rest_after_s: float = Field(60.0, gt=0, description="Seconds without a request before REST.")
    dream_after_s: float = Field(
        300.0, gt=0, description="Seconds without a request before DREAM, where something waits for sleep."
    )
    temperature_limit_c: float = Field(
        0.0,
        ge=0,
        description="Degrees Celsius that count as too hot; 0: what the sensors say, else 100.",
    )


class SelectorSettings(_Section):
    """How permission is computed, how trust ages, and what may be spent on learning."""

    form: Form = Field(
        "product",
        description='"product": expertise x cheapness x persistence; "additive": expertise - price / scale.',
    )
    dial: float = Field(
        0.5, ge=0, le=1, description="From cheapest (0) to best (1), unless the request says otherwise."
    )
    hot_bonus: float = Field(1.2, ge=1, description="Persistence of a model that is already loaded.")
    price_unit: PriceUnit = Field(
        "atp", description='What a price counts: "atp", "seconds", "tokens", "usd".'
    )
    price_scale: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description='The price, in that unit, at which cheapness is one half (at dial 0.5); "auto" is three '
        "times what a usual answer costs the models that are here, told anew as they are measured.",
    )
    prior_strength: float = Field(
        10.0, gt=0, description="How many outcomes the card's published quality counts for."
    )
    half_life_days: float = Field(30.0, gt=0, description="Evidence counts half after this many days.")
    explore_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="The share of the ATP balance that trying a model to learn may cost; 0 never tries.",
    )


class IrpSettings(_Section):
    """Refinement: how good is good enough, and how far to go for it."""

    max_steps: int = Field(
        3, ge=1, le=100, description="The most drafts for one answer; FOCUS allows twice as many, REST fewer."
    )
    accept_energy: float = Field(
        0.3,
        ge=0,
        le=1,
        description="A draft whose chance of being wrong is at or below this is accepted; towards the best "
        "end of the dial it falls to 0.",
    )
    epsilon: float = Field(
        0.01, ge=0, description="Refinement ends when energy changes by less than this, twice."
    )


class ModelSettings(_Section):
    """How models are loaded and run."""

    context: int = Field(4096, ge=256, description="Tokens of context each model is loaded with.")
    max_tokens: int = Field(256, ge=1, description="The longest answer, unless the request says otherwise.")
    threads: int = Field(0, ge=0, description="Threads that generate; 0 leaves one core free, at least one.")
    load_timeout_s: float = Field(300.0, gt=0, description="A load that takes longer is a failure.")
    answer_timeout_s: float = Field(300.0, gt=0, description="An answer that takes longer is a failure.")
    silence_timeout_s: float = Field(
        60.0,
        gt=0,
        description="A worker that says nothing for this long is hung, and is killed. Before the first word "
        "of a model that runs here, 0.1 s are added for each token of the prompt.",
    )
    stop_timeout_s: float = Field(2.0, gt=0, description="A worker that does not stop by then is killed.")
    memory_limit_gb: float = Field(
        0.0,
        ge=0,
        description="GB that the models of one SAGE_HOME may take; 0: what is free, less a floor.",
    )
    home_wait_s: float = Field(
        60.0,
        ge=0,
        description="How long to wait for another process that uses the models of this SAGE_HOME; 0 waits "
        "for none that is busy.",
    )
    queue: int = Field(
        512, ge=1, description="How many requests may wait for models; one more is refused at once."
    )
    offline: bool = Field(False, description="Never use the network, not even to pull.")
    remote_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost", "::1"),
        description="Hosts whose servers of models may be asked; a card that names another is refused.",
    )
    remote_connect_s: float = Field(
        5.0,
        gt=0,
        description="A server of models that takes longer to accept a connection, or to say which models it "
        "has, is a failure.",
    )


class MemorySettings(_Section):
    """What is remembered in SAGE_HOME/sage.db: for whom, and how long."""

    namespace: str = Field(
        "default",
        min_length=1,
        description="Whose memory is used where nobody says (--as). No namespace sees another's.",
    )
    recall_tokens: int = Field(
        1000,
        ge=0,
        le=2000,
        description="Tokens of earlier messages, beyond this session's, that a model is given at most; 0: "
        "none.",
    )
    salient_max: int = Field(
        100_000,
        ge=1,
        description="Messages of one namespace that may be brought back; beyond it the least salient stay in "
        "the log alone.",
    )
    patterns: bool = Field(
        True,
        description="Let earlier turns limit how often an opinion is asked, and give an answer that was "
        "judged right again where the very same question comes (temperature 0, no model named).",
    )
    keep_days: float = Field(
        730.0,
        gt=0,
        description="Decisions and outcomes of turns older than this are let go of in sleep; what was said "
        "stays.",
    )
    max_mb: float = Field(
        10_000.0,
        ge=10,
        description="MB of the database beyond which sleep lets go of the oldest: first decisions and "
        "outcomes, then turns.",
    )


class EventSettings(_Section):
    """The event log in SAGE_HOME/events.jsonl. It never holds prompts or answers."""

    log: bool = Field(True, description="Write events to disk.")
    max_bytes: int = Field(
        10_000_000, ge=10_000, description="At this size the log is rotated; one old file is kept."
    )


class Settings(BaseSettings):
    """All settings. Build with :func:`load_settings`, which turns every mistake into a ConfigError."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    atp: AtpSettings = AtpSettings()
    metabolism: MetabolismSettings = MetabolismSettings()
    selector: SelectorSettings = SelectorSettings()
    irp: IrpSettings = IrpSettings()
    models: ModelSettings = ModelSettings()
    memory: MemorySettings = MemorySettings()
    events: EventSettings = EventSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        files = [TomlConfigSettingsSource(settings_cls, path) for path in config_files()]
        return (init_settings, env_settings, *files)


def sage_home() -> Path:
    """Where SAGE keeps its database, models and runs: ``SAGE_HOME``, or the platform's data folder."""
    named = os.environ.get("SAGE_HOME")
    if named:
        return Path(named).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("sage", appauthor=False)


def config_files() -> list[Path]:
    """The files that are read, strongest first; those that do not exist are left out."""
    return [p for p in (Path("sage.toml"), sage_home() / "sage.toml") if p.is_file()]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(_leaves(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def _known_keys() -> list[str]:
    return list(_leaves(Settings.model_construct().model_dump()))


def _check_environment() -> None:
    """Refuse a misspelt variable. Others' names that begin alike (SageMath has SAGE_ROOT) are theirs."""
    known = {ENV_PREFIX + key.replace(".", "__").upper() for key in _known_keys()} | OUTSIDE_SETTINGS
    ours = tuple(f"{ENV_PREFIX}{section}_".upper() for section in Settings.model_fields)
    bare = {f"{ENV_PREFIX}{key.split('.')[1]}".upper() for key in _known_keys()}
    for name in map(str.upper, os.environ):
        if not name.startswith(ENV_PREFIX) or name in known:
            continue
        misspelt = difflib.get_close_matches(name, OUTSIDE_SETTINGS, cutoff=0.8)
        if "__" in name or name.startswith(ours) or name in bare or misspelt:
            raise ConfigError(
                f"Unknown variable {name}.{did_you_mean(name, known)}",
                mend=f"See the known keys: sage config schema; or: unset {name}",
            )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", mend=f"Correct {path}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", mend=f"Check {path}") from error
    known = _known_keys()
    sections = sorted({key.split(".")[0] for key in known})
    for key in _leaves(tree):
        if key not in known:
            hint = did_you_mean(key, known) or did_you_mean(key.split(".")[-1], sections)
            raise ConfigError(
                f"Unknown key {key!r} in {path}.{hint}", mend="See the known keys: sage config schema"
            )
    return tree


def load_settings(**flags: Any) -> Settings:
    """Read every source and check it. ``flags`` are section dicts, e.g. ``models={"offline": True}``.

    Raises:
        ConfigError: a file that is not TOML, an unknown key or variable, a value out of range.
    """
    _check_environment()
    for path in config_files():
        _read_toml(path)
    try:
        return Settings(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{key}: {first['msg']} (got {first.get('input')!r})",
            mend="See what each key takes: sage config schema",
        ) from error
    except ValueError as error:
        raise ConfigError(str(error), mend="See what each key takes: sage config schema") from error


def origins(settings: Settings) -> dict[str, tuple[Any, str]]:
    """Every key with its value and where that came from, e.g. ``models.offline -> (True, "SAGE_...")``."""
    from_env = _leaves(EnvSettingsSource(type(settings))())
    from_files = [(path, _leaves(_read_toml(path))) for path in config_files()]
    result: dict[str, tuple[Any, str]] = {}
    for key, value in _leaves(settings.model_dump()).items():
        if key in from_env:
            origin = ENV_PREFIX + key.replace(".", "__").upper()
        else:
            origin = next((str(path) for path, keys in from_files if key in keys), "default")
        result[key] = (value, origin)
    return result


def example_toml() -> str:
    """``sage.example.toml``: every key, commented, with its default and meaning."""
    lines = [
        "# Settings of SAGE. Copy to ./sage.toml or SAGE_HOME/sage.toml and uncomment what you change.",
        "# A variable overrides a key: SAGE_MODELS__OFFLINE=true overrides [models] offline.",
        "# Written by: sage config schema --toml",
    ]
    for name, info in Settings.model_fields.items():
        section = info.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            continue
        lines += ["", f"# {(section.__doc__ or '').strip()}", f"[{name}]"]
        for key, field in section.model_fields.items():
            lines += [f"# {field.description}", f"# {key} = {toml_value(field.default)}"]
    return "\n".join(lines) + "\n"


def toml_value(value: object) -> str:
    """A setting's value as TOML writes it."""
    quoted = isinstance(value, str | bool | tuple)
    return json.dumps(value, ensure_ascii=False) if quoted else str(value)
