"""How fast the consumer is next to the loop that people write by hand; README.md says what is measured and how."""
