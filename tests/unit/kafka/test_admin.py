"""An admin client outlives whoever uses it."""

from __future__ import annotations

import subprocess
import sys

# The only references are in a cycle, and the collector runs on the client's own thread.
CODE = """
import gc, logging, threading
from confluent_kafka import TopicCollection
from consumer.kafka.admin import make_admin
from consumer.settings import load_settings

gc.disable()
settings = load_settings({}, overrides={"kafka": {"bootstrap_servers": "127.0.0.1:1"}, "group_id": "g",
    "input_topic": "in", "output_topic": "out", "worker": "a:B"})

class User:
    def __init__(self):
        self.myself = self
        self.admin = make_admin(settings, logging.getLogger("client"))

collected = threading.Event()
user = User()
(future,) = user.admin.describe_topics(TopicCollection(["in"]), request_timeout=0.2).values()
future.add_done_callback(lambda _: (gc.collect(), collected.set()))
del user
print(collected.wait(20), flush=True)
import os
os._exit(0)
"""


def test_one_whose_user_is_collected_on_its_own_thread_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
