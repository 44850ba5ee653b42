"""Makes the topics that the settings name, with PARTITIONS partitions each, and returns when they are there."""

import os
import sys
import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from consumer.settings import load_settings

GIVE_UP_SECONDS = 120


def main() -> None:
    """Try until the broker answers; a topic that is there already is as good as one that was made."""
    settings = load_settings(os.environ)
    admin = AdminClient(
        {"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 2, **settings.kafka.options}
    )
    names = [settings.input_topic, settings.output_topic or "", settings.dlq_topic]
    missing = [NewTopic(name, int(os.environ["PARTITIONS"]), 1) for name in names if name]
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while missing:
        for topic, made in admin.create_topics(missing, request_timeout=5).items():
            try:
                made.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    if time.monotonic() > deadline:
                        sys.exit(f"topic {topic} could not be made in {GIVE_UP_SECONDS} s: {error.args[0].str()}")
                    continue
            missing = [one for one in missing if one.topic != topic]
        time.sleep(1 if missing else 0)


main()
