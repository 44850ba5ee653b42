"""The programs to compare with: `python -m benchmarks.peers.NAME BOOTSTRAP INPUT OUTPUT GROUP DELIVERY`."""
