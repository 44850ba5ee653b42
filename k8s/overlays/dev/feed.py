"""Pipes FEED_CHECKPOINTS synthetic checkpoints, from FEED_FIRST on, into `checkpoint-consumer feed`."""

import os
import subprocess
import sys
import time

from consumer.generate import stream


def main() -> int:
    """The exit code of `feed`."""
    first, count, rate, size = (int(os.environ[f"FEED_{name}"]) for name in ("FIRST", "CHECKPOINTS", "RATE", "BYTES"))
    feed = subprocess.Popen(["checkpoint-consumer", "feed", "-"], stdin=subprocess.PIPE)
    assert feed.stdin is not None
    began = time.monotonic()
    try:
        for fed, checkpoint in enumerate(stream(count, first, size_bytes=size)):
            time.sleep(max(0.0, began + fed / rate - time.monotonic()))
            feed.stdin.write(checkpoint + b"\n")
            feed.stdin.flush()
        feed.stdin.close()
    except BrokenPipeError:
        pass  # it ended, and said why
    return feed.wait()


if __name__ == "__main__":
    sys.exit(main())
