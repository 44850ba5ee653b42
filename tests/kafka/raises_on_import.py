"""A user's module that cannot be imported: its message has two lines."""

raise RuntimeError("the first line\nand the second")
