"""What every benchmark prints and writes: rows as a Markdown table and as JSON, and the machine.

    report.show(rows, args.json, ['jax', 'torch'], note='medians of 9 turns')

Figures without the machine and the versions beside them cannot be compared with anything.
"""

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path


def show(rows: list[dict], path: str | None, packages: Sequence[str], note: str = "") -> None:
    """Prints a table, what it was measured on, and writes both as JSON where a path is given.

    Args:
        rows: one dictionary a line; a key that a row lacks is left blank.
        path: of a JSON file {"rows", "machine", "versions", "note"}; None writes none.
        packages: whose versions matter; those that are not installed are left out.
        note: how it was measured.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    print("| " + " | ".join(keys) + " |\n|" + "---|" * len(keys))
    for row in rows:
        print("| " + " | ".join(_shown(row.get(key, "")) for key in keys) + " |")
    about = machine()
    installed = versions(packages)
    named = ", ".join(f"{name} {version}" for name, version in installed.items())
    print(f"\n{described(about)}; {named}" + (f"; {note}" if note else ""))
    if path:
        whole = {"rows": rows, "machine": about, "versions": installed, "note": note}
        Path(path).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def machine() -> dict:
    """Processor, cores, memory, accelerators that JAX would see are the caller's to add."""
    about: dict = {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "system": platform.system(),
        "python": platform.python_version(),
    }
    about["cores"] = about["cores"] or os.cpu_count()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        about["processor"] = fields.get("model name", about["processor"])
        flags = fields.get("flags", "").split()
        about["simd"] = next((f for f in ("avx512f", "avx2", "avx") if f in flags), "")
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        about["memory_gb"] = round(pages * size / 2**30)
    except (OSError, ValueError):
        pass
    if hasattr(os, "getloadavg"):
        # Above the number of cores somebody else was computing too.
        about["load"] = round(os.getloadavg()[0], 1)
    return about


def described(about: dict) -> str:
    """One line about a machine."""
    simd = f" ({about['simd']})" if about.get("simd") else ""
    memory = f", {about['memory_gb']} GB" if about.get("memory_gb") else ""
    load = f", load average {about['load']}" if "load" in about else ""
    return (
        f"{about['cores']} cores of {about['processor']}{simd}{memory}{load}, "
        f"{about['system']}, Python {about['python']}"
    )


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Version by package, of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
