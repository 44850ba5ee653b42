"""What can go wrong, and what each kind means to the loop.

    ConsumerError
    ├── TransientError     retried until CONSUMER_RETRY__MAX_ELAPSED_SECONDS, never dead-lettered
    ├── PermanentError     a dead letter at once
    │   ├── DecodeError        the input is not a checkpoint
    │   ├── ProcessKilled      the process died of it, again and again (never raised: dead letters say so)
    │   └── SchemaViolation    the output does not fit its Avro schema
    └── Stop               ends the member; `.exit_code` says why
        ├── ConfigError    2: settings, authorisation, a missing topic, an incompatible schema
        ├── PolicyStop     3: retries spent, dead-letter limit, sequence, batch over budget
        └── Fenced         4: another instance has the same identity

Any other exception out of user code is retried `CONSUMER_RETRY__MAX_ATTEMPTS` times, then dead-lettered.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ConfigError",
    "ConsumerError",
    "DecodeError",
    "ExitCode",
    "Fenced",
    "PermanentError",
    "PolicyStop",
    "ProcessKilled",
    "SchemaViolation",
    "Stop",
    "TransientError",
]


class ExitCode(IntEnum):
    """Exit codes of the command and of a member process."""

    DONE = 0
    UNEXPECTED = 1
    CONFIGURATION = 2
    POLICY = 3
    FENCED = 4


class ConsumerError(Exception):
    """Base of every error this package raises on purpose."""


class TransientError(ConsumerError):
    """The surroundings failed, not the data (a database that is down): try again, never dead-letter."""


class PermanentError(ConsumerError):
    """The data is at fault and another try cannot help: a dead letter at once."""


class DecodeError(PermanentError):
    """The input record is not a checkpoint of any known dialect."""


class ProcessKilled(PermanentError):
    """The process that worked on this checkpoint died, again and again. Never raised: its dead letter says so."""


class SchemaViolation(PermanentError):
    """A message does not fit its Avro schema; the text names the field."""


class Stop(ConsumerError):
    """Ends the member with `exit_code`; the text says what happened and what to do."""

    exit_code: ExitCode = ExitCode.UNEXPECTED


class ConfigError(Stop):
    """A setting, an authorisation, a topic or a schema is wrong; the text names it and says what to do."""

    exit_code = ExitCode.CONFIGURATION


class PolicyStop(Stop):
    """A policy that the user chose says stop."""

    exit_code = ExitCode.POLICY


class Fenced(Stop):
    """Another process uses this member's identity."""

    exit_code = ExitCode.FENCED
