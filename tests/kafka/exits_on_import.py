"""A user's module that ends the interpreter that imports it, with success."""

import sys

sys.exit(0)
