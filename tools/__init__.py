"""What the Makefile runs on this checkout. Not part of the distribution."""
