"""What runs in a worker kernel. Imports nothing of `gateway/` or `notebook/`."""
