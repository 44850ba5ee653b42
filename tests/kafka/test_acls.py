"""The rights of k8s/components/strimzi on a real authorizer: enough, and none too many.

The KafkaUser resources themselves are read, and each principal gets what one of them says, or less. Everybody works on
the same topics and in the same group: a run that is refused leaves its input to the next one, and in the end it is all
there once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import pytest
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.brokers.jars import Unavailable
from tests.brokers.jvm import JvmBroker
from tests.brokers.settings import free_port
from tests.brokers.topics import TopicFactory, Topics
from tests.kafka.commands import ROOT, Pipeline
from tests.kafka.pipelines import eventually

STRIMZI = ROOT / "k8s/components/strimzi"
PASSWORD = "not-a-secret"
RECORDS = 300

TYPES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
}
PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}


class Right(NamedTuple):
    """One operation on one resource, in a KafkaUser's words."""

    type: str
    name: str
    pattern: str
    operation: str

    def binding(self, principal: str) -> AclBinding:
        """What Strimzi's user operator makes of it."""
        operation = AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.operation).upper()]
        return AclBinding(
            TYPES[self.type],
            self.name,
            PATTERNS[self.pattern],
            f"User:{principal}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )


def rights_of(file: str) -> list[Right]:
    """All that the KafkaUser in this file may do."""
    user = yaml.safe_load((STRIMZI / file).read_text())
    assert user["spec"]["authorization"]["type"] == "simple"
    return [
        Right(acl["resource"]["type"], acl["resource"]["name"], acl["resource"]["patternType"], operation)
        for acl in user["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    ]


PIPELINE = rights_of("user.yaml")


def names_of(settings: str) -> Topics:
    """The topics and the group that these settings name."""
    found = dict(re.findall(r"CONSUMER_(INPUT_TOPIC|OUTPUT_TOPIC|DLQ_TOPIC|GROUP_ID)=(\S+)", settings))
    return Topics(*(found[name] for name in ("INPUT_TOPIC", "OUTPUT_TOPIC", "DLQ_TOPIC", "GROUP_ID")))


BASE = (ROOT / "k8s/base/settings.env").read_text()
LIVE = names_of(BASE)
BACKFILL = names_of(BASE + (ROOT / "k8s/backfill/kustomization.yaml").read_text())


class Guarded(JvmBroker):
    """A broker that lets in who has a password, and lets them do what ACLs say.

    Its other listener, the one of every test broker, is the administrator's: on loopback, and for tests alone.
    """

    def __init__(self) -> None:
        port, sasl, controller = free_port(), free_port(), free_port()
        users = " ".join(f'user_{name}="{PASSWORD}"' for name in PRINCIPALS)
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        super().__init__(
            port,
            {
                "listeners": f"PLAINTEXT://127.0.0.1:{port},USERS://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},USERS://127.0.0.1:{sasl}",
                "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,USERS:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
                "listener.name.users.sasl.enabled.mechanisms": "PLAIN",
                "listener.name.users.plain.sasl.jaas.config": f"{module} required {users};",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "allow.everyone.if.no.acl.found": "false",
                "super.users": "User:ANONYMOUS",
            },
        )
        self.users = f"127.0.0.1:{sasl}"

    def allow(self, rights: dict[str, list[Right]]) -> None:
        """Give each principal its rights, and return when the broker has them."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": "0"})
        wanted = {right.binding(principal) for principal, own in rights.items() for right in own}
        for future in admin.create_acls(list(wanted)).values():
            future.result()
        anything: Any = None  # which the client's types do not know of
        every = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            anything,
            anything,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        eventually(lambda: len(admin.describe_acls(every).result()) == len(wanted), "the broker has all ACLs")


def less(*taken: Right) -> list[Right]:
    """What the pipeline may do, without these."""
    assert set(taken) <= set(PIPELINE)
    return [right for right in PIPELINE if right not in taken]


def weaker(right: Right) -> list[Right]:
    """What the pipeline may do, but where it says Read or Write only Describe."""
    return [*less(right), right._replace(operation="Describe")]


CONFIGS = [right for right in PIPELINE if right.operation == "DescribeConfigs"]
NEEDED = [right for right in PIPELINE if right not in CONFIGS]


def principal_of(kind: str, right: Right) -> str:
    return re.sub(r"\W", "_", f"{kind}_{right.type}_{right.name}_{right.operation}")


def of_group(group: str) -> list[Right]:
    """What the pipeline may do, for another group; but of the group itself it may only know."""
    others = [right for right in PIPELINE if right.type == "topic"]
    return [*others, Right("group", group, "literal", "Describe"), Right("transactionalId", group, "prefix", "Write")]


GRANTS = {
    "all": PIPELINE,
    "no_configs": less(*CONFIGS),
    **{principal_of("without", right): less(right) for right in NEEDED},
    **{principal_of("described", right): weaker(right) for right in NEEDED},
    "novel": of_group("novel"),
    "operator": rights_of("operators/user.yaml"),
    "backfill": rights_of("backfill/user.yaml"),
}
PRINCIPALS = list(GRANTS)


@dataclass
class Place:
    """The broker with its topics, and who feeds it."""

    broker: Guarded
    numbers: Iterator[int]

    def pipeline(self, principal: str, names: Topics = LIVE) -> Pipeline:
        """What runs with this principal's rights."""
        options = {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": principal,
            "sasl.password": PASSWORD,
        }
        return Pipeline(
            self.broker, names, kafka__bootstrap_servers=self.broker.users, kafka__options=options, dlq__max_ratio=1
        )

    def feed(self, count: int) -> None:
        """So many checkpoints more, and one record that is none."""
        self.pipeline("all").feed([next(self.numbers) for _ in range(count)])
        producer = Producer({"bootstrap.servers": self.broker.bootstrap})
        producer.produce(LIVE.input, b"no checkpoint", "none", 0)
        assert producer.flush(30) == 0


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    try:
        broker = Guarded()
    except Unavailable as reason:
        if os.environ.get("TEST_REQUIRE_BROKER", "0") != "0":
            pytest.fail(f"no broker with an authorizer: {reason}")
        pytest.skip(f"no broker with an authorizer: {reason}")
    try:
        broker.allow(GRANTS)
        factory = TopicFactory(broker)
        for name in {*LIVE[:3], *BACKFILL[:3]}:
            factory.make(name, 6)
        yield Place(broker, count())
    finally:
        broker.close()


def test_the_rights_of_the_pipeline_are_enough(place: Place) -> None:
    place.feed(RECORDS)
    pipeline = place.pipeline("all")
    done = pipeline.run("--until-caught-up")
    assert done.code == 0, done.stderr
    assert done.loud == []
    report = pipeline.audit()
    assert report.ok, str(report)
    assert report.accounted > RECORDS
    assert report.dead_letters > 0


SAID = {
    "input": ["checkpoints", "Read on"],
    "output": ["Write on"],
    "dlq": ["Write on"],
    "group": ["Read on the group"],
    "transactionalId": ["Write on the transactional id prefix"],
}
"""What the one line says of a missing right."""


@pytest.mark.parametrize("kind", ["without", "described"])
@pytest.mark.parametrize("right", NEEDED, ids=lambda right: f"{right.type}-{right.name}-{right.operation}")
def test_each_right_is_needed_and_is_named_where_it_is_missing(place: Place, right: Right, kind: str) -> None:
    """Taken away, and Describe left in its place: the one shows before the group is joined, the other mostly later."""
    place.feed(6)
    done = place.pipeline(principal_of(kind, right)).run("--until-caught-up")
    assert done.code == 2, done.stderr
    assert "Traceback" not in done.stderr
    [line] = done.lines
    role = right.type if right.type != "topic" else LIVE._fields[LIVE.index(right.name)]
    words = [*SAID[role], *([right.name] if right.type == "topic" and kind == "without" else [])]
    assert all(word in line for word in words), line


def test_who_may_not_write_the_start_of_a_new_group_is_told_the_right(place: Place) -> None:
    done = place.pipeline("novel", LIVE._replace(group="novel")).run()
    assert done.code == 2, done.stderr
    [line] = done.lines
    assert "group novel is not authorised: grant this principal Read on the group" in line


def test_at_least_once_needs_no_right_to_transactions(place: Place) -> None:
    place.feed(6)
    [right] = [right for right in NEEDED if right.type == "transactionalId"]
    done = place.pipeline(principal_of("without", right)).run("--until-caught-up", delivery="at_least_once")
    assert done.code == 0, done.stderr


def test_without_describe_configs_a_run_goes_on_and_says_what_it_does_not_know(place: Place) -> None:
    place.feed(6)
    done = place.pipeline("no_configs").run("--until-caught-up")
    assert done.code == 0, done.stderr
    said = done.said("the topic's max.message.bytes cannot be read, the default is assumed")
    assert {line["topic"] for line in said} == {right.name for right in CONFIGS} == set(LIVE[:3])
    assert {line["needs"] for line in said} == {"DescribeConfigs on the topic"}


def test_the_backfill_does_its_work_and_nothing_to_the_live_pipeline(place: Place) -> None:
    place.feed(6)
    pipeline = place.pipeline("backfill", BACKFILL)
    # As k8s/backfill has it; what reads the input for the number's place uses no group.
    done = pipeline.run("--until-caught-up", concurrency=2, start="checkpoint:0", sequence__partitioning="modulo")
    assert done.code == 0, done.stderr
    report = pipeline.audit()
    assert report.ok, str(report)
    assert report.dead_letters > 0
    for right in GRANTS["backfill"]:
        assert right.type == "topic" or not right.name.startswith(f"{LIVE.group}-")
    for right in PIPELINE:
        assert right.type == "topic" or not BACKFILL.group.startswith(right.name)


def test_operators_see_outputs_and_dead_letters_and_reset_counts_and_write_nothing(place: Place) -> None:
    place.feed(6)
    live = place.pipeline("all")
    assert live.run("--until-caught-up").code == 0
    with pytest.raises(AssertionError, match="CONSUMER_OUTPUT_TOPIC: no right to read"):
        live.command("tail", "--no-follow")
    operators = place.pipeline("operator")
    tailed = operators.command("tail", "--no-follow")
    assert sorted(json.loads(line)["value"]["sequence_number"] for line in tailed.splitlines()) == live.numbers()
    listed = [json.loads(line) for line in operators.command("dlq", "list", "--json").splitlines()]
    place_of = f"{listed[0]['partition']}/{listed[0]['offset']}"
    assert json.loads(operators.command("dlq", "show", place_of, "--json"))["value"] == "no checkpoint"
    assert operators.command("tail", "--dlq", "--no-follow")
    assert "1 of " in operators.command("dlq", "resume")
    refused = operators.run("--until-caught-up")
    assert refused.code == 2, refused.stderr
    assert "Write on" in refused.stderr
