"""A Kafka broker as a plain JVM process: KRaft, broker and controller in one, on loopback.

By hand, in the foreground: `python -m tests.brokers.jvm --port 19092`.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.brokers import jars, process
from tests.brokers.ready import wait_until_ready
from tests.brokers.settings import BROKER_SETTINGS, CLUSTER_ID, free_port

LOGGING = """\
status = warn
appender.file.type = File
appender.file.name = file
appender.file.fileName = {log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %c: %m%n
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""


class JvmBroker:
    """One broker with its data in a folder of its own, deleted by `close`.

    `stop` and `start` keep port and data. Not thread-safe. Raises jars.Unavailable where Java or the jars are missing,
    RuntimeError with the end of the broker's log where it does not come up.
    """

    kind = "jvm"
    owned = True

    def __init__(self, port: int | None = None, settings: Mapping[str, str] | None = None, heap: str = "768m") -> None:
        self._java = [jars.java(), f"-Xmx{heap}", "-XX:+UseSerialGC", "-cp", f"{jars.kafka_jars()}/*"]
        port = port or free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        self.folder = Path(tempfile.mkdtemp(prefix="checkpoint-consumer-kafka-"))
        self.log = self.folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._write_settings(port, settings or {})
        try:
            self._format()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def describe(self) -> str:
        return f"Kafka {jars.KAFKA_VERSION} as a JVM process at {self.bootstrap}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process; None: it was ended."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it if it does not run, and return when it answers."""
        if self.running:
            return
        command = [*self._java, f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"]
        command += ["kafka.Kafka", str(self.folder / "server.properties")]
        self._process = process.spawn(command, self.folder / "console.log")
        wait_until_ready(self.bootstrap, lambda: self.running, self._log_tail)

    def stop(self) -> None:
        """Controlled shutdown, as an operator would do it; killed where that takes more than 30 s."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """A crash: SIGKILL."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Connections stay open and nothing answers, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`; harmless on a broker that is not frozen."""
        self._signal(signal.SIGCONT)

    def logged(self) -> str:
        """Its whole log, restarts included."""
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        """End the broker and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        process.end(self._process, number)
        self._process = None

    def _write_settings(self, port: int, extra: Mapping[str, str]) -> None:
        controller = free_port()
        settings = {
            **BROKER_SETTINGS,
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(self.folder / "data"),
            **extra,
        }
        lines = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.folder / "server.properties").write_text(lines)
        (self.folder / "log4j2.properties").write_text(LOGGING.format(log=self.log))

    def _format(self) -> None:
        command = [*self._java, "kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID]
        command += ["--config", str(self.folder / "server.properties")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the broker's folder could not be formatted: {done.stdout}{done.stderr}")

    def _log_tail(self) -> str:
        logs = [self.folder / "console.log", self.log]
        return "the end of its log:\n" + "".join(
            log.read_text(errors="replace")[-2000:] for log in logs if log.exists()
        )


def main() -> None:
    """Run a broker until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.brokers.jvm", description=__doc__)
    parser.add_argument("--port", type=int, help="default: a free one, printed")
    parser.add_argument("--heap", default="768m", help="the JVM's -Xmx (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one more broker setting")
    arguments = parser.parse_args()
    extra = dict(pair.split("=", 1) for pair in arguments.set)
    stop = process.stop_signal()
    broker = JvmBroker(arguments.port, extra, arguments.heap)
    process.serve_until_signal(broker, stop, f"ready {broker.bootstrap} (log: {broker.log})")


if __name__ == "__main__":
    main()
