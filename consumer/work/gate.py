"""What a record passes on its way in and out: a bounded run's end, the sequence audit, the dead-letter limits."""

from __future__ import annotations

from consumer.core import stops
from consumer.core.audit import Anomaly
from consumer.errors import PolicyStop
from consumer.log import RateLimited, get_logger
from consumer.work.calls import FAILURES
from consumer.work.job import Job
from consumer.work.lane import Lane, Slot, Stage
from consumer.work.publish import described
from consumer.work.report import Tally

ANOMALY_SECONDS = 10.0
"""Between two log lines about the same kind of anomaly in the same partition."""


class Gate:
    """Asked once about every record in input order, when it is decoded, and about every dead letter at its release."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._anomalies = RateLimited(get_logger("consumer.work"), ANOMALY_SECONDS)

    def admits(self, lane: Lane, slot: Slot, tally: Tally) -> bool:
        """Whether user code sees the record. If not, it is settled: discarded, done without work, or held for good."""
        if self._job.limits.bounded and not self._within_limits(lane, slot):
            return False
        if lane.audit is None or slot.sequence_number is None:
            return True
        anomaly = lane.audit.see(slot.sequence_number)
        return anomaly is None or self._goes_on(lane, slot, anomaly, tally)

    def releases(self, lane: Lane, slot: Slot) -> bool:
        """Whether the head, a dead letter, may leave. One beyond the limits may not: it is held for good."""
        limits = self._job.dead_letter_limits
        if not limits.refuses(lane.history.after(slot.sequence_number, slot.ended_epoch, dead=True)):
            return True
        lane.halt(slot, stops.dead_letters(self._where(lane, slot), described(slot.error), limits))
        return False

    def _where(self, lane: Lane, slot: Slot) -> str:
        return f"{self._job.context.input_topic}/{lane.number} offset {slot.offset}"

    def _within_limits(self, lane: Lane, slot: Slot) -> bool:
        """Whether the slot is part of a bounded run; the lane ends with it, or before it."""
        limits = self._job.limits
        try:
            past = limits.past(slot.checkpoint)
        except FAILURES as error:
            raise PolicyStop(
                f"the until predicate failed for {self._where(lane, slot)}: {described(error)}; nothing was skipped: "
                "mend it and start again"
            ) from error
        if past:
            lane.cut_off()
            lane.discard_last()
            return False
        lane.met_limit = lane.met_limit or limits.reached(slot.sequence_number, slot.ended_epoch)
        if limits.ended(lane.number, slot.sequence_number):
            lane.cut_off()
        return True

    def _goes_on(self, lane: Lane, slot: Slot, anomaly: Anomaly, tally: Tally) -> bool:
        """Report the anomaly; whether the record is worked on all the same."""
        tally.anomalies[anomaly.kind] += 1
        self._anomalies.warning(
            "sequence anomaly",
            key=(lane.number, anomaly.kind),
            topic=self._job.context.input_topic,
            partition=lane.number,
            offset=slot.offset,
            **anomaly._asdict(),
        )
        sequence = self._job.sequence
        if sequence.policy == "stop":
            lane.settle(slot, Stage.DONE)
            lane.halt(slot, stops.sequence(self._where(lane, slot), anomaly))
        elif sequence.skips and anomaly.kind == "repeat":
            slot.skipped = True
            lane.settle(slot, Stage.DONE)
        else:
            return True
        return False
