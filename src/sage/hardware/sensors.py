"""What the machine's sensors say, as far as it can be believed: stalls, heat, battery.

Owns: reading them, and leaving out what is absent or cannot be. Must not know: what is done with the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from sage.hardware.probe import ROOT

__all__ = ["Battery", "Heat", "battery", "heat", "stalled"]

PROCESSORS = ("coretemp", "k10temp", "zenpower", "cpu", "gpu", "soc", "tj", "pkg_temp", "bcm2835", "tegra")
"""Parts of the names of sensors in or beside a processor. Others (disks; boards, whose open inputs read
110 °C all their life) say nothing about whether it can work on."""

COLDEST, HOTTEST = 0.0, 150.0
"""Degrees Celsius outside which a reading is an error: silicon has failed long before."""

LEAST_LIMIT, MOST_LIMIT = 60.0, 125.0
"""The same for limits: drivers write -273, 0 or 65261 where there is none."""

USUAL_LIMIT = 100.0
"""Degrees Celsius at which most processors protect themselves, where a sensor names no limit."""


class Heat(NamedTuple):
    """Degrees Celsius, and at how many the part protects itself."""

    celsius: float
    limit: float


class Battery(NamedTuple):
    """The share that is left, and whether the mains feed the machine."""

    share: float
    on_mains: bool


def stalled(root: Path = ROOT) -> float:
    """The share of the last ten seconds in which all work waited for memory (Linux's ``full avg10``, in
    docs.kernel.org/accounting/psi.html); 0 where the kernel does not say."""
    try:
        text = (root / "proc/pressure/memory").read_text(encoding="ascii", errors="replace")
        line = next(line for line in text.splitlines() if line.startswith("full "))
        percent = float(line.split("avg10=")[1].split()[0])
    except (OSError, StopIteration, IndexError, ValueError):
        return 0.0
    return percent / 100.0 if 0.0 <= percent <= 100.0 else 0.0


def heat(source: Any = psutil) -> Mapping[str, Heat]:
    """Each processor's sensor by name. Empty on macOS, in most virtual machines and in containers."""
    try:
        chips = source.sensors_temperatures()
    except Exception:  # drivers fail in ways of their own; where psutil knows no sensors there is no function
        return {}
    found: dict[str, Heat] = {}
    for chip, readings in chips.items():
        if not any(part in chip.lower() for part in PROCESSORS):
            continue
        for number, reading in enumerate(readings):
            celsius = _within(reading.current, COLDEST, HOTTEST)
            if celsius is not None:
                named = (
                    _within(reading.critical, LEAST_LIMIT, MOST_LIMIT),
                    _within(reading.high, LEAST_LIMIT, MOST_LIMIT),
                )
                limit = next((figure for figure in named if figure is not None), USUAL_LIMIT)
                found[f"{chip}/{number}"] = Heat(celsius, limit)
    return found


def battery(source: Any = psutil) -> Battery | None:
    """The battery; None without one, or where it cannot say how full it is. Unless it says that nothing feeds
    it, the mains do."""
    try:
        found = source.sensors_battery()
    except Exception:  # as above
        return None
    percent = None if found is None else _within(found.percent, 0.0, 110.0)  # worn ones count beyond 100
    return None if percent is None else Battery(min(1.0, percent / 100.0), found.power_plugged is not False)


def _within(value: Any, least: float, most: float) -> float | None:
    """The figure, if it is one and can be."""
    try:
        figure = float(value)
    except (TypeError, ValueError):
        return None
    return figure if math.isfinite(figure) and least <= figure <= most else None
