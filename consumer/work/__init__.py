"""The work thread: decoding, user code, and encoding. It never touches Kafka."""
