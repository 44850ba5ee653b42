"""Brings jars with Maven, once, into the user's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

POM = Path(__file__).parents[2] / "docker" / "kafka" / "pom.xml"
KAFKA_VERSION = "4.3.1"
APICURIO_VERSION = "2.6.13.Final"


class Unavailable(Exception):
    """What is needed is not on this machine; the message says what to install or set."""


def java() -> str:
    """The path of `java`. Raises Unavailable."""
    return _program("java", "a Java 17 runtime (Debian: openjdk-17-jre-headless)")


def kafka_jars() -> Path:
    """The folder of a broker's jars, brought by Maven if it is not there yet. Raises Unavailable."""
    return _cached(
        f"kafka-{KAFKA_VERSION}",
        lambda folder: _maven(
            "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"
        ),
    )


def apicurio_runner() -> Path:
    """The registry's runnable jar. Raises Unavailable."""

    def bring(folder: Path) -> None:
        artifact = f"io.apicurio:apicurio-registry-app:{APICURIO_VERSION}:tar.gz:all"
        _maven("dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}")
        archive = next(folder.glob("*.tar.gz"))
        shutil.unpack_archive(archive, folder)
        archive.unlink()

    return next(_cached(f"apicurio-{APICURIO_VERSION}", bring).glob("**/*-runner.jar"))


def _cached(name: str, bring: Callable[[Path], None]) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "checkpoint-consumer"
    folder = base / name
    if not folder.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base, prefix=f".{name}-") as unfinished:
            bring(Path(unfinished))
            try:
                Path(unfinished).rename(folder)
            except OSError:
                if not folder.is_dir():  # else: another process was first
                    raise
            else:
                Path(unfinished).mkdir()
    return folder


def _maven(*arguments: str) -> None:
    maven = _program("mvn", "Maven (Debian: maven)")
    done = subprocess.run([maven, "-B", "-q", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"Maven could not bring the jars: {(done.stdout + done.stderr).strip()[-600:]}")


def _program(name: str, what: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"`{name}` is not on the PATH: install {what}")
    return path
