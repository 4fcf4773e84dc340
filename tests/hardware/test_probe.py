"""What a process may use, told from fake /proc and /sys trees."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from sage.hardware import probe as module
from sage.hardware.probe import (
    Accelerator,
    accelerators,
    cgroup_cpus,
    cgroup_memory,
    cpu_name,
    is_unified,
    memory,
    probe,
    usable_cores,
)

GIB = 1024**3


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def smi(folder: Path, body: str) -> str:
    """A program that stands in for nvidia-smi."""
    path = folder / "fake-smi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_this_machine() -> None:
    machine = probe()
    assert machine.platform == {"linux": "linux", "darwin": "darwin"}[sys.platform]
    assert 1 <= machine.usable_cores <= machine.logical_cores == os.cpu_count()
    assert 0 < machine.memory_available <= machine.memory_total <= psutil.virtual_memory().total
    assert machine.cpu
    assert machine.arch
    assert machine.swap_total >= 0


def test_available_memory_is_not_free_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose cache is full has little free and much available."""
    real = psutil.virtual_memory()
    full = real._replace(total=16 * GIB, available=12 * GIB, free=GIB // 2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: full)
    assert probe(root).memory_available == 12 * GIB


def test_a_container_limit_caps_both_figures(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(total=64 * GIB, available=60 * GIB))
    write(
        root,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {2 * GIB}\nactive_file 7\n",
            "sys/fs/cgroup/cpu.max": "100000 100000\n",
        },
    )
    machine = probe(root)
    assert (machine.memory_total, machine.memory_available) == (4 * GIB, 3 * GIB)
    assert machine.usable_cores == 1


def test_a_limit_above_the_machine_is_none(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": str(2**55),
            "sys/fs/cgroup/memory.current": "5",
        },
    )
    assert probe(root).memory_total == psutil.virtual_memory().total


def test_cgroup_v2_takes_the_tightest_of_all_levels(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "0::/user/app\n",
            "sys/fs/cgroup/user/app/memory.max": "max\n",
            "sys/fs/cgroup/user/app/memory.current": "100\n",
            "sys/fs/cgroup/user/memory.max": "1000\n",
            "sys/fs/cgroup/user/memory.current": "900\n",
            "sys/fs/cgroup/user/memory.stat": "inactive_file 300\n",
            "sys/fs/cgroup/memory.max": "5000\n",
            "sys/fs/cgroup/memory.current": "4800\n",
            "sys/fs/cgroup/user/app/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user/cpu.max": "250000 100000\n",
        },
    )
    assert cgroup_memory(root) == (1000, 200)
    assert cgroup_cpus(root) == 2


def test_cgroup_v1(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500\n",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup_memory(root) == (2000, 1000)
    assert cgroup_cpus(root) == 1, "half a core is still one thread"


def test_no_limit_is_none(root: Path) -> None:
    assert (cgroup_memory(root), cgroup_cpus(root)) == (None, None)
    write(
        root,
        {
            "proc/self/cgroup": "4:memory:/\n3:cpu:/\n0::/\nnonsense\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (cgroup_memory(root), cgroup_cpus(root)) == (None, None)


def test_more_in_use_than_the_limit_is_nothing_available(root: Path) -> None:
    write(
        root,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": "100",
            "sys/fs/cgroup/memory.current": "150",
        },
    )
    assert cgroup_memory(root) == (100, 0)


def test_affinity_limits_the_cores(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 5, 9}, raising=False)
    machine = probe(root)
    assert (machine.logical_cores, machine.usable_cores) == (64, 3)


def test_cpu_name(root: Path) -> None:
    assert cpu_name(root), "some name, even where nothing says one"
    write(root, {"proc/device-tree/model": "Raspberry Pi 5 Model B\0"})
    assert cpu_name(root) == "Raspberry Pi 5 Model B"
    write(
        root, {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Ryzen 9\nprocessor\t: 1\nmodel name\t: other\n"}
    )
    assert cpu_name(root) == "Ryzen 9"


@pytest.mark.parametrize(
    ("files", "system", "arch", "unified"),
    [
        ({}, "Linux", "x86_64", False),
        ({}, "Linux", "aarch64", False),
        ({"etc/nv_tegra_release": "# R36"}, "Linux", "aarch64", True),
        ({"proc/device-tree/model": "NVIDIA Jetson Orin Nano\0"}, "Linux", "aarch64", True),
        ({"proc/device-tree/model": "Radxa ROCK 5B\0"}, "Linux", "aarch64", True),
        ({"proc/device-tree/model": "linux,dummy-virt\0"}, "Linux", "aarch64", False),
        ({}, "Darwin", "arm64", True),
        ({}, "Darwin", "x86_64", False),
    ],
)
def test_is_unified(root: Path, files: dict[str, str], system: str, arch: str, unified: bool) -> None:
    assert is_unified(write(root, files), system=system, arch=arch) is unified


def test_graphics_cards(root: Path) -> None:
    command = smi(root, "echo 'NVIDIA GeForce RTX 4090, 24564, 23000'; echo 'Odd, Name, 8192, 100'")
    assert accelerators(1, 1, shared=False, root=root, command=command) == (
        Accelerator(
            name="NVIDIA GeForce RTX 4090",
            memory_total=24564 * 1024**2,
            memory_free=23000 * 1024**2,
            unified=False,
        ),
        Accelerator(name="Odd, Name", memory_total=8192 * 1024**2, memory_free=100 * 1024**2, unified=False),
    )


def test_a_board_that_shares_memory_says_not_available(root: Path) -> None:
    command = smi(root, "echo 'NVIDIA GB10, [N/A], [N/A]'")
    assert accelerators(100, 60, shared=False, root=root, command=command) == (
        Accelerator(name="NVIDIA GB10", memory_total=100, memory_free=60, unified=True),
    )


@pytest.mark.parametrize("body", ["exit 9", "echo nonsense", "echo ', 1, 2'", "printf '\\377\\376'"])
def test_a_driver_that_fails_is_no_accelerator(root: Path, body: str) -> None:
    assert accelerators(1, 1, shared=False, root=root, command=smi(root, body)) == ()


def test_no_driver_is_fine(root: Path) -> None:
    assert accelerators(1, 1, shared=False, root=root, command=str(root / "missing")) == ()


def test_a_driver_that_hangs_is_left(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NVIDIA_SMI_TIMEOUT_S", 0.05)
    assert accelerators(1, 1, shared=False, root=root, command=smi(root, "exec sleep 60")) == ()


def test_a_jetson_without_nvidia_smi(root: Path) -> None:
    write(root, {"etc/nv_tegra_release": "", "proc/device-tree/model": "NVIDIA Jetson AGX Orin\0"})
    assert accelerators(100, 60, shared=True, root=root, command=str(root / "missing")) == (
        Accelerator(name="NVIDIA Jetson AGX Orin", memory_total=100, memory_free=60, unified=True),
    )


def test_memory_alone_asks_no_driver(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "accelerators", None)
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(total=64 * GIB, available=60 * GIB))
    assert memory(root) == (64 * GIB, 60 * GIB)
    write(
        root,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
        },
    )
    assert memory(root) == (4 * GIB, GIB)


def test_usable_cores_are_those_of_the_machine_record(monkeypatch: pytest.MonkeyPatch) -> None:
    usable_cores.cache_clear()
    monkeypatch.setattr(module, "cgroup_cpus", lambda _root: 1)
    assert usable_cores() == probe().usable_cores == 1
    monkeypatch.setattr(module, "cgroup_cpus", lambda _root: None)
    assert usable_cores() == 1  # read once
    usable_cores.cache_clear()
