"""The command `checkpoint-consumer`: one verb, one file."""
