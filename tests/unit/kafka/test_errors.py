"""The classification of client errors, row by row, as measured (librdkafka 2.16.0, Kafka 4.3.1).

Every line says which request failed and how the client flagged it. Absorbed errors never reach us. Flags are those of
real KafkaErrors; a delivery report carries none.
"""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from consumer.kafka.errors import TABLE, Step, Verdict, classify, remedy

INIT, PRODUCE, DELIVERY = Step.INIT, Step.PRODUCE, Step.DELIVERY
OFFSETS, COMMIT, ABORT = Step.OFFSETS, Step.COMMIT, Step.ABORT

MEASURED = {
    # InitProducerId
    ("InitProducerId", "FATAL", (INIT,)): {
        "INVALID_TRANSACTION_TIMEOUT": Verdict.CONFIG,
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": Verdict.CONFIG,
        "CLUSTER_AUTHORIZATION_FAILED": Verdict.CONFIG,
        "PRODUCER_FENCED": Verdict.FENCED,
        "_FENCED": Verdict.FENCED,
    },
    # AddPartitionsToTxn: seen by whichever call comes next
    ("AddPartitionsToTxn", "ABORT", (DELIVERY, OFFSETS, COMMIT)): {
        "TOPIC_AUTHORIZATION_FAILED": Verdict.CONFIG,
        "INVALID_PRODUCER_ID_MAPPING": Verdict.ABORT,
        "TRANSACTION_ABORTABLE": Verdict.ABORT,
    },
    ("AddPartitionsToTxn", "FATAL", (DELIVERY, OFFSETS, COMMIT)): {
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": Verdict.CONFIG,
        "INVALID_PRODUCER_EPOCH": Verdict.FENCED,
        "PRODUCER_FENCED": Verdict.FENCED,
        "_FENCED": Verdict.FENCED,
        "INVALID_TXN_STATE": Verdict.REBUILD,
    },
    # Produce
    ("Produce", "ABORT", (DELIVERY,)): {
        "PRODUCER_FENCED": Verdict.FENCED,
        "INVALID_TXN_STATE": Verdict.ABORT,
        "INVALID_PRODUCER_ID_MAPPING": Verdict.ABORT,
        "UNKNOWN_PRODUCER_ID": Verdict.ABORT,
        "MSG_SIZE_TOO_LARGE": Verdict.REFUSED,
        "TOPIC_AUTHORIZATION_FAILED": Verdict.CONFIG,
        "INVALID_RECORD": Verdict.REFUSED,
        "POLICY_VIOLATION": Verdict.REFUSED,
        "TRANSACTION_ABORTABLE": Verdict.ABORT,
        "OUT_OF_ORDER_SEQUENCE_NUMBER": Verdict.REBUILD,  # on a real broker, after a refused record
    },
    ("Produce", "FATAL", (DELIVERY,)): {
        "INVALID_PRODUCER_EPOCH": Verdict.FENCED,
        "_FENCED": Verdict.FENCED,
        "OUT_OF_ORDER_SEQUENCE_NUMBER": Verdict.REBUILD,
    },
    # AddOffsetsToTxn
    ("AddOffsetsToTxn", "ABORT", (OFFSETS,)): {
        "GROUP_AUTHORIZATION_FAILED": Verdict.CONFIG,
        "PRODUCER_FENCED": Verdict.FENCED,
        "_FENCED": Verdict.FENCED,  # not fatal-flagged, fenced all the same
        "INVALID_PRODUCER_ID_MAPPING": Verdict.ABORT,
        "TRANSACTION_ABORTABLE": Verdict.ABORT,
    },
    ("AddOffsetsToTxn", "FATAL", (OFFSETS,)): {
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": Verdict.CONFIG,
        "INVALID_PRODUCER_EPOCH": Verdict.FENCED,
        "INVALID_TXN_STATE": Verdict.REBUILD,
    },
    # TxnOffsetCommit
    ("TxnOffsetCommit", "ABORT", (OFFSETS,)): {
        "GROUP_AUTHORIZATION_FAILED": Verdict.CONFIG,
        "ILLEGAL_GENERATION": Verdict.ABORT,
        "UNKNOWN_MEMBER_ID": Verdict.ABORT,
        "FENCED_INSTANCE_ID": Verdict.ABORT,
        "STALE_MEMBER_EPOCH": Verdict.ABORT,
        "PRODUCER_FENCED": Verdict.FENCED,
        "_FENCED": Verdict.FENCED,
        "TRANSACTION_ABORTABLE": Verdict.ABORT,
    },
    ("TxnOffsetCommit", "FATAL", (OFFSETS,)): {
        "INVALID_PRODUCER_EPOCH": Verdict.FENCED,
        "INVALID_TXN_STATE": Verdict.REBUILD,
    },
    # EndTxn
    ("EndTxn", "ABORT", (COMMIT, ABORT)): {
        "INVALID_PRODUCER_ID_MAPPING": Verdict.ABORT,
        "UNKNOWN_PRODUCER_ID": Verdict.ABORT,
        "TRANSACTION_ABORTABLE": Verdict.ABORT,
    },
    ("EndTxn", "FATAL", (COMMIT, ABORT)): {
        "INVALID_PRODUCER_EPOCH": Verdict.FENCED,
        "PRODUCER_FENCED": Verdict.FENCED,
        "_FENCED": Verdict.FENCED,
        "INVALID_TXN_STATE": Verdict.REBUILD,
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": Verdict.CONFIG,
    },
    # The library itself
    ("local", "RETRIABLE", (INIT, OFFSETS, COMMIT, ABORT)): {
        "_TIMED_OUT": Verdict.RESUME,
        "_CONFLICT": Verdict.REBUILD,  # says retriable for ever while a commit must be finished first
    },
    ("local", "none", (PRODUCE, OFFSETS, COMMIT, ABORT)): {
        "_STATE": Verdict.REBUILD,
    },
    ("local", "none", (PRODUCE,)): {
        "MSG_SIZE_TOO_LARGE": Verdict.REFUSED,  # and the transaction would commit without it
        "_QUEUE_FULL": Verdict.ABORT,
        "_UNKNOWN_TOPIC": Verdict.ABORT,
        "_UNKNOWN_PARTITION": Verdict.ABORT,
    },
    # Delivery reports: final, without flags
    ("delivery report", "none", (DELIVERY,)): {
        "_MSG_TIMED_OUT": Verdict.ABORT,
        "_TIMED_OUT": Verdict.ABORT,
        "_PURGE_QUEUE": Verdict.ABORT,
        "_PURGE_INFLIGHT": Verdict.ABORT,
        "_TRANSPORT": Verdict.ABORT,
        "UNKNOWN_TOPIC_OR_PART": Verdict.ABORT,
        "MSG_SIZE_TOO_LARGE": Verdict.REFUSED,
        "RECORD_LIST_TOO_LARGE": Verdict.REFUSED,
        "INVALID_RECORD": Verdict.REFUSED,
        "INVALID_TIMESTAMP": Verdict.REFUSED,
        "INVALID_MSG": Verdict.REFUSED,
        "POLICY_VIOLATION": Verdict.REFUSED,
        "UNSUPPORTED_FOR_MESSAGE_FORMAT": Verdict.REFUSED,
        "TOPIC_AUTHORIZATION_FAILED": Verdict.CONFIG,
        "_FENCED": Verdict.FENCED,
        "OUT_OF_ORDER_SEQUENCE_NUMBER": Verdict.REBUILD,
    },
    # OffsetCommit, at least once: neither retriable nor fatal
    ("OffsetCommit", "none", (OFFSETS,)): {
        "ILLEGAL_GENERATION": Verdict.ABORT,
        "UNKNOWN_MEMBER_ID": Verdict.ABORT,
        "REBALANCE_IN_PROGRESS": Verdict.ABORT,
        "FENCED_INSTANCE_ID": Verdict.ABORT,
        "GROUP_AUTHORIZATION_FAILED": Verdict.CONFIG,
    },
}

FLAGS: dict[str, dict[str, bool]] = {
    "ABORT": {"txn_requires_abort": True},
    "FATAL": {"fatal": True},
    "RETRIABLE": {"retriable": True},
    "none": {},
}

CASES = [
    pytest.param(step, name, flag, verdict, id=f"{request}-{step.name}-{flag}-{name}")
    for (request, flag, steps), row in MEASURED.items()
    for name, verdict in row.items()
    for step in steps
]


def error(name: str, flag: str = "none") -> KafkaError:
    return KafkaError(getattr(KafkaError, name), "reason", **FLAGS[flag])


def test_the_flags_are_real() -> None:
    made = error("_FENCED", "ABORT")
    assert (made.txn_requires_abort(), made.fatal(), made.retriable()) == (True, False, False)
    assert error("_FENCED", "FATAL").fatal()
    assert error("_TIMED_OUT", "RETRIABLE").retriable()


@pytest.mark.parametrize(("step", "name", "flag", "verdict"), CASES)
def test_measured(step: Step, name: str, flag: str, verdict: Verdict) -> None:
    assert classify(step, error(name, flag)) is verdict


def test_every_row_of_the_table_is_measured() -> None:
    def decides(step: Step, code: int) -> int | None:
        return next(
            (at for at, row in enumerate(TABLE) if code in row.codes and (not row.steps or step in row.steps)), None
        )

    used = {
        decides(step, getattr(KafkaError, name))
        for (_, _, steps), row in MEASURED.items()
        for name in row
        for step in steps
    }
    assert set(range(len(TABLE))) <= used
    codes = {getattr(KafkaError, name) for row in MEASURED.values() for name in row}
    assert {code for row in TABLE for code in row.codes} <= codes


def test_every_row_says_why() -> None:
    assert all(row.why for row in TABLE)


@pytest.mark.parametrize("step", list(Step))
def test_what_no_row_names_is_decided_by_its_flags(step: Step) -> None:
    name = "KAFKA_STORAGE_ERROR"
    assert classify(step, error(name, "FATAL")) is Verdict.REBUILD
    assert classify(step, error(name, "ABORT")) is Verdict.ABORT


@pytest.mark.parametrize("step", [step for step in Step if step is not DELIVERY])
def test_a_call_that_says_retriable_is_made_again_and_one_without_a_flag_is_fatal(step: Step) -> None:
    assert classify(step, error("NOT_COORDINATOR", "RETRIABLE")) is Verdict.RESUME
    assert classify(step, error("NOT_COORDINATOR")) is Verdict.REBUILD


@pytest.mark.parametrize("flag", ["RETRIABLE", "none"])
def test_a_delivery_report_is_final(flag: str) -> None:
    """There is no call to make again: the record is not there, and waiting for it would be waiting in vain."""
    assert classify(DELIVERY, error("NOT_ENOUGH_REPLICAS", flag)) is Verdict.ABORT


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("flag", ["ABORT", "FATAL", "RETRIABLE", "none"])
@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Verdict.CONFIG),
        ("TOPIC_AUTHORIZATION_FAILED", Verdict.CONFIG),
        ("GROUP_AUTHORIZATION_FAILED", Verdict.CONFIG),
        ("CLUSTER_AUTHORIZATION_FAILED", Verdict.CONFIG),
        ("_FENCED", Verdict.FENCED),
        ("PRODUCER_FENCED", Verdict.FENCED),
        ("INVALID_PRODUCER_EPOCH", Verdict.FENCED),
        ("_CONFLICT", Verdict.REBUILD),
        ("_STATE", Verdict.REBUILD),
    ],
)
def test_codes_come_before_flags(step: Step, flag: str, name: str, verdict: Verdict) -> None:
    assert classify(step, error(name, flag)) is verdict


def test_an_oversize_record_is_the_record_s_fault_only_where_one_was_sent() -> None:
    assert classify(COMMIT, error("MSG_SIZE_TOO_LARGE", "ABORT")) is Verdict.ABORT


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("INVALID_TRANSACTION_TIMEOUT", ["transaction.timeout.ms", "CONSUMER_KAFKA__OPTIONS"]),
        ("TOPIC_AUTHORIZATION_FAILED", ["Write on the output and dead-letter topics"]),
        ("GROUP_AUTHORIZATION_FAILED", ["Read on the group"]),
        ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", ["transactional id prefix <group>-"]),
        ("CLUSTER_AUTHORIZATION_FAILED", ["IdempotentWrite"]),
    ],
)
def test_what_only_a_human_can_mend_says_what_to_do(name: str, words: list[str]) -> None:
    text = remedy(COMMIT, error(name, "FATAL"))
    assert "\n" not in text
    assert all(word in text for word in words), text


def test_every_configuration_error_has_its_remedy() -> None:
    codes: Any = [code for row in TABLE if row.verdict is Verdict.CONFIG for code in row.codes]
    assert not [code for code in codes if "the missing operation" in remedy(OFFSETS, KafkaError(code))]
