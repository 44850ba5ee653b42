"""A Kafka broker in a container, through testcontainers: the official image, or the one of `docker/kafka/build.sh`."""

from __future__ import annotations

import gc
import os
import warnings
from typing import TYPE_CHECKING

from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient

from tests.brokers.jars import Unavailable
from tests.brokers.ready import wait_until_ready
from tests.brokers.settings import BROKER_SETTINGS, CLUSTER_ID, free_port

if TYPE_CHECKING:
    from docker.models.containers import Container

DEFAULT_IMAGE = "apache/kafka:4.3.1"
CONTROLLER_PORT = 9093


def image_name() -> str:
    """The image to run: `TEST_KAFKA_IMAGE`, else the official one."""
    return os.environ.get("TEST_KAFKA_IMAGE") or DEFAULT_IMAGE


class ContainerBroker:
    """One broker in a container, removed by `close`.

    `stop` and `start` keep port and data. The image is pulled where the engine does not have it. Raises
    jars.Unavailable where there is no engine or no image, RuntimeError with the end of the broker's log where it does
    not come up.
    """

    kind = "docker"
    owned = True

    def __init__(self) -> None:
        self.image = image_name()
        host = _engine_host()
        # A port chosen here, not by the engine: the broker must advertise it, and it must survive a restart.
        port = free_port()
        self.bootstrap = f"{host}:{port}"
        self._container = DockerContainer(self.image).with_bind_ports(port, port)
        for name, value in _environment(host, port).items():
            self._container.with_env(name, value)
        try:
            self._container.start()
        except DockerException as error:
            self.close()
            raise Unavailable(_no_container(self.image, error)) from error
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    @property
    def describe(self) -> str:
        return f"{self.image} in a container at {self.bootstrap}"

    @property
    def running(self) -> bool:
        container = self._wrapped()
        container.reload()
        return container.status in {"running", "paused"}

    def start(self) -> None:
        """Start it if it does not run, and return when it answers."""
        if not self.running:
            self._wrapped().start()
            self._wait()

    def stop(self) -> None:
        """Controlled shutdown, as an operator would do it; killed where that takes more than 30 s."""
        self.thaw()
        self._wrapped().stop(timeout=30)

    def kill(self) -> None:
        """A crash: SIGKILL."""
        self.thaw()
        if self.running:
            self._wrapped().kill()
            self._wrapped().wait()

    def freeze(self) -> None:
        """Connections stay open and nothing answers, until `thaw`."""
        self._wrapped().pause()

    def thaw(self) -> None:
        """Undo `freeze`; harmless on a broker that is not frozen."""
        container = self._wrapped()
        container.reload()
        if container.status == "paused":
            container.unpause()

    def logged(self) -> str:
        """Its whole log, restarts included."""
        return bytes(self._wrapped().logs()).decode(errors="replace")

    def close(self) -> None:
        """Remove the container and its data."""
        self._container.stop(force=True, delete_volume=True)

    def _wrapped(self) -> Container:
        return self._container.get_wrapped_container()

    def _wait(self) -> None:
        def log() -> str:
            tail: bytes = self._wrapped().logs(tail=40)
            return "the end of its log:\n" + tail.decode(errors="replace")

        wait_until_ready(self.bootstrap, lambda: self.running, log)


def _engine_host() -> str:
    with warnings.catch_warnings():
        # docker-py leaves the socket of a failed connection to the garbage collector, which warns.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = DockerClient()
            client.client.ping()
        except DockerException as error:
            problem = f"no Docker engine answers ({error}): start one, or set DOCKER_HOST"
        else:
            host = str(client.host())
            client.client.close()
            return "127.0.0.1" if host == "localhost" else host  # no attempt over IPv6, where nobody listens
        gc.collect()
    raise Unavailable(problem)


def _environment(host: str, port: int) -> dict[str, str]:
    settings = {
        **BROKER_SETTINGS,
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:{CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{CONTROLLER_PORT}",
        "log.dirs": "/tmp/kafka-data",  # writable for the user of either image, and kept by a restart
    }
    names = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in settings.items()}
    return {**names, "CLUSTER_ID": CLUSTER_ID}


def _no_container(image: str, error: DockerException) -> str:
    return (
        f"the container of {image} cannot be started ({error}): let the engine reach a registry, or build the image "
        "with `docker/kafka/build.sh IMAGE` and set TEST_KAFKA_IMAGE=IMAGE; where testcontainers' own helper "
        "image is what is missing, set TESTCONTAINERS_RYUK_DISABLED=true"
    )
