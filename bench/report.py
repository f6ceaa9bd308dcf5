"""The results as markdown for people and as JSON for programs."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from app.config import ROOT
from bench.harness import Row, Spread
from bench.world import World


@dataclass(frozen=True)
class Setting:
    """Where, when and with what it was measured."""

    date: str
    commit: str
    python: str
    server: str
    tools: str
    cores: int
    memory_mib: int
    file_system: str  # of the server and the dumps
    kernel: str
    database_mib: int
    rounds: int
    is_quick: bool

    @classmethod
    def of(cls, world: World) -> "Setting":
        return cls(
            date=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            commit=_commit(),
            python=platform.python_version(),
            server=f"PostgreSQL {world.version}",
            tools=f"pg_dump {world.tools.version}",
            cores=os.cpu_count() or 1,
            memory_mib=psutil.virtual_memory().total // 1024**2,
            file_system=_file_system(world.folder),
            kernel=f"{platform.system()} {platform.release()}",
            database_mib=world.scale.megabytes,
            rounds=world.scale.rounds,
            is_quick=world.scale.is_quick,
        )


def write(folder: Path, name: str, setting: Setting, rows: Sequence[Row]) -> list[Path]:
    """Write both files; returns where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"setting": asdict(setting), "rows": [_in_json(row) for row in rows]}
    texts = {
        ".md": in_markdown(setting, rows),
        ".json": json.dumps(content, indent=2, ensure_ascii=False) + "\n",
    }
    paths = [folder / f"{name}{ending}" for ending in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def _in_json(row: Row) -> dict[str, object]:
    return asdict(row) | {"aim": row.claim.aim.in_words(), "is_met": row.is_met}


def in_markdown(setting: Setting, rows: Sequence[Row]) -> str:
    """A page with one table."""
    quick = " A quick run: a small database and few rounds say little." if setting.is_quick else ""
    lines = [
        f"# Measured on {setting.date[:10]}",
        "",
        f"{setting.date}, Backstop {setting.commit}, Python {setting.python}, {setting.server},",
        f"{setting.tools}; {setting.cores} cores, {setting.memory_mib:,} MiB of memory,",
        f"{setting.file_system}, {setting.kernel}.",
        "",
        f"A database of {setting.database_mib:,} MiB; medians of {setting.rounds} rounds, with the",
        f"least and the greatest value in brackets.{quick}",
        "",
        "| measure | ran | against | aim | value | ours | theirs | notes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(map(_cell, _cells(row)))} |" for row in rows),
        "",
    ]
    return "\n".join(lines)


def in_line(row: Row) -> str:
    """A row for the terminal."""
    unit = row.claim.aim.unit
    words = f"{_in_words(row.value)} {unit}  {row.claim.name}: {row.claim.ran}"
    verdict = {None: "", True: "", False: "  MISSED"}[row.is_met]
    return f"{words} against {row.claim.against} (aim: {row.claim.aim.in_words()}){verdict}"


def _cells(row: Row) -> list[str]:
    claim = row.claim
    unit = claim.unit.split()[-1] if claim.unit.split()[-1] in ("s", "ms", "MB") else claim.unit
    verdict = {None: "", True: " ✓", False: " ✗"}[row.is_met]
    return [
        claim.name,
        claim.ran,
        claim.against,
        claim.aim.in_words(),
        f"**{_in_words(row.value)} {claim.aim.unit}**{verdict}",
        f"{_number(row.ours.median)} {unit}",
        f"{_number(row.theirs.median)} {unit}" if row.theirs else "",
        "; ".join(filter(None, (claim.notes, row.remark))),
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _in_words(spread: Spread) -> str:
    return f"{_number(spread.median)} ({_number(spread.least)}–{_number(spread.greatest)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"  # noqa: PLR2004


def _commit() -> str:
    argv = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.check_output(argv, cwd=ROOT, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return "of no repository"


def _file_system(folder: Path) -> str:
    """That of the longest mount point above the folder."""
    above = [
        each for each in psutil.disk_partitions(all=True) if folder.is_relative_to(each.mountpoint)
    ]
    return max(above, key=lambda each: len(each.mountpoint)).fstype if above else "unknown"
