"""The member's logic as one pure state machine: no I/O, no threads, no clock of its own."""
