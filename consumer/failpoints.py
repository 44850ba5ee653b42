"""Places where a test makes the process die or freeze: `CHECKPOINT_FAILPOINTS="after-flush=kill@3,in-revoke=stop"`.

An action happens at the n-th passage (`@n`, default 1; `@n+`: and at every later one): `kill` (SIGKILL), `stop`
(SIGSTOP), `kill-soon` (SIGKILL from another thread about a millisecond later, while the next call is under way),
`abort` (the transaction is aborted), `lose` (at a commit: nobody hears how it ended; at a resume: it is not made; in a
flush: it is not over).
Only processes started with the variable set look at it; it is read once. With `CHECKPOINT_FAILPOINTS_FIRED=FOLDER`
each action happens once for all processes that share the folder, and leaves a file there that is named after the
place and holds the process id: a test that cannot show that its fault happened has shown nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

VARIABLE = "CHECKPOINT_FAILPOINTS"
FIRED = "CHECKPOINT_FAILPOINTS_FIRED"


def _parse(text: str) -> dict[str, tuple[str, int, bool]]:
    points = {}
    for part in filter(None, text.split(",")):
        name, _, action = part.partition("=")
        kind, _, count = action.partition("@")
        points[name] = (kind, int(count.rstrip("+") or 1), count.endswith("+"))
    return points


_points = _parse(os.environ.get(VARIABLE, ""))


def failpoint(name: str) -> bool:
    """Pass the place `name`; True asks the caller to abort its transaction, or to take its outcome for unknown."""
    if not _points or name not in _points:
        return False
    kind, left, lasting = _points[name]
    _points[name] = (kind, left - 1, lasting)
    if left > 1 or (not lasting and (left < 1 or not _is_first(name))):
        return False
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif kind == "kill-soon":
        threading.Timer(0.001, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return kind in {"abort", "lose"}


def _is_first(name: str) -> bool:
    folder = os.environ.get(FIRED)
    if folder is None:
        return True
    try:
        with Path(folder, name).open("x") as mark:
            mark.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True
