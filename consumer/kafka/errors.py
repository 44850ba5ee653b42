"""What a client error means to the transaction it happened in: one table, tested as a table.

Rows are tried in order; the first that matches the step and the code decides. What no row names is decided by
librdkafka's own flags (INTRODUCTION.md, "Transactional producer API"): retriable, then abortable, and what carries
no flag counts as fatal. Measured with librdkafka 2.16.0 on injected errors and on Kafka 4.3.1.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from confluent_kafka import KafkaError


class Step(Enum):
    """The call that failed."""

    INIT = "init_transactions"
    PRODUCE = "produce"
    DELIVERY = "delivery"
    OFFSETS = "send_offsets_to_transaction"
    COMMIT = "commit_transaction"
    ABORT = "abort_transaction"


class Verdict(Enum):
    """What to do about it."""

    RESUME = "resume"
    """The same call again."""
    ABORT = "abort"
    """Abort, keep the results, send them again."""
    REFUSED = "refused"
    """A record is at fault: abort, a new producer, then look for the record."""
    REBUILD = "rebuild"
    """The producer is of no use any more, the outcome may be unknown."""
    FENCED = "fenced"
    """As REBUILD; right after a rebuild it means that another process has this identity."""
    CONFIG = "config"
    """Nothing but a human can mend it: exit 2."""


class Row(NamedTuple):
    """One arm of the classification; no steps: all of them."""

    codes: tuple[int, ...]
    verdict: Verdict
    why: str
    steps: tuple[Step, ...] = ()


TABLE: tuple[Row, ...] = (
    Row(
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        ),
        Verdict.CONFIG,
        "an ACL is missing: flagged abortable or fatal, but a retry is an endless loop",
    ),
    Row(
        (KafkaError.INVALID_TRANSACTION_TIMEOUT,),
        Verdict.CONFIG,
        "transaction.timeout.ms is above the broker's transaction.max.timeout.ms",
    ),
    Row(
        (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH),
        Verdict.FENCED,
        "a newer producer, or a transaction that timed out: the two look the same, and not always fatal-flagged",
    ),
    Row(
        (
            KafkaError.MSG_SIZE_TOO_LARGE,
            KafkaError.RECORD_LIST_TOO_LARGE,
            KafkaError.INVALID_RECORD,
            KafkaError.INVALID_TIMESTAMP,
            KafkaError.INVALID_MSG,
            KafkaError.POLICY_VIOLATION,
            KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        ),
        Verdict.REFUSED,
        "the broker (or, without any flag, produce() itself) does not take this record",
        (Step.PRODUCE, Step.DELIVERY),
    ),
    Row(
        (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,),
        Verdict.REBUILD,
        "abortable after a refused record, fatal otherwise: the sequence is broken until a new producer",
    ),
    Row(
        (KafkaError._CONFLICT, KafkaError._STATE),
        Verdict.REBUILD,
        "_CONFLICT says retriable for ever while another call must be finished first",
    ),
    Row(
        (KafkaError._TIMED_OUT,),
        Verdict.RESUME,
        "the call goes on inside the library; after a commit only the same call may follow",
        (Step.INIT, Step.OFFSETS, Step.COMMIT, Step.ABORT),
    ),
    Row(
        (
            KafkaError._MSG_TIMED_OUT,
            KafkaError._TIMED_OUT,
            KafkaError._PURGE_QUEUE,
            KafkaError._PURGE_INFLIGHT,
            KafkaError._UNKNOWN_TOPIC,
            KafkaError._UNKNOWN_PARTITION,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError._TRANSPORT,
            KafkaError._QUEUE_FULL,
        ),
        Verdict.ABORT,
        "the surroundings failed, not the record",
        (Step.PRODUCE, Step.DELIVERY),
    ),
    Row(
        (
            KafkaError.ILLEGAL_GENERATION,
            KafkaError.UNKNOWN_MEMBER_ID,
            KafkaError.FENCED_INSTANCE_ID,
            KafkaError.STALE_MEMBER_EPOCH,
            KafkaError.REBALANCE_IN_PROGRESS,
        ),
        Verdict.ABORT,
        "the group has moved on: what is still owned at the same epoch is sent again",
        (Step.OFFSETS,),
    ),
)


_BEHIND_FATAL = (
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.UNRELEASED_INSTANCE_ID,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)


def cause(error: KafkaError) -> int:
    """The code of an error; the one behind a fatal error of the consumer, which comes once, as `_FATAL` with a text."""
    if error.code() == KafkaError._FATAL:
        for code in _BEHIND_FATAL:
            if KafkaError(code).str() in error.str():
                return code
    return error.code()


def classify(step: Step, error: KafkaError) -> Verdict:
    """What `error` in `step` means; what neither the table nor a flag explains is treated as fatal."""
    code = error.code()
    for row in TABLE:
        if code in row.codes and (not row.steps or step in row.steps):
            return row.verdict
    if error.fatal():
        return Verdict.REBUILD
    if error.txn_requires_abort() or step is Step.DELIVERY:  # a delivery report is final, and carries no flags
        return Verdict.ABORT
    return Verdict.RESUME if error.retriable() else Verdict.REBUILD


def remedy(step: Step, error: KafkaError) -> str:
    """One line for a CONFIG verdict: what is wrong and what to do."""
    if error.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
        return (
            "the broker refuses transaction.timeout.ms: lower it in CONSUMER_KAFKA__OPTIONS to at most the broker's "
            "transaction.max.timeout.ms"
        )
    needs = {
        KafkaError.TOPIC_AUTHORIZATION_FAILED: "Write on the output and dead-letter topics",
        KafkaError.GROUP_AUTHORIZATION_FAILED: "Read on the group",
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "Write on the transactional id prefix <group>-",
        KafkaError.CLUSTER_AUTHORIZATION_FAILED: "IdempotentWrite on the cluster",
    }
    need = needs.get(error.code(), "the missing operation")
    return f"{step.value} is not authorised ({error.name()}: {error.str()}): grant this principal {need}"
