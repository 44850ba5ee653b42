"""Apicurio Registry, in memory, as a plain JVM process on loopback: a schema registry with Confluent's interface.

By hand, in the foreground: `python -m tests.brokers.apicurio --port 18081`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.brokers import jars, process
from tests.brokers.settings import free_port

START_SECONDS = 60.0


class Apicurio:
    """One registry; `url` is what a client takes as the registry's URL.

    Raises jars.Unavailable without Java or Maven, RuntimeError with the end of its log where it does not come up.
    """

    def __init__(self, port: int | None = None) -> None:
        runner = jars.apicurio_runner()
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
        self.folder = Path(tempfile.mkdtemp(prefix="checkpoint-consumer-registry-"))
        command = [jars.java(), "-Xmx256m", "-XX:+UseSerialGC", f"-Dquarkus.http.port={port}"]
        command += ["-Dquarkus.http.host=127.0.0.1", "-jar", str(runner)]
        self._process = process.spawn(command, self.folder / "console.log")
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the registry; what it held is gone."""
        process.end(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.running and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/subjects", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        log = (self.folder / "console.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the schema registry at {self.url} did not come up; the end of its log:\n{log}")


def main() -> None:
    """Run a registry until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.brokers.apicurio", description=__doc__)
    parser.add_argument("--port", type=int, help="default: a free one, printed")
    stop = process.stop_signal()
    registry = Apicurio(parser.parse_args().port)
    process.serve_until_signal(registry, stop, f"ready {registry.url}")


if __name__ == "__main__":
    main()
