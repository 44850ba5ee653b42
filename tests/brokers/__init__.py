"""Real brokers and a real schema registry for tests and benchmarks; nothing here ships with the package.

`find.find_broker` looks for a broker in this order and says what it found:

1. `KAFKA_BOOTSTRAP_SERVERS`: a broker that belongs to somebody else; it is never stopped, frozen or reconfigured;
2. a Docker engine and the image of `TEST_KAFKA_IMAGE` (default: the official one), through testcontainers;
3. Java 17 and Maven: the broker as a plain JVM process from the jars of `docker/kafka/pom.xml`.

By hand: `python -m tests.brokers.jvm --port 19092` and `python -m tests.brokers.apicurio --port 18081`.
"""
