"""What runs in the gateway process. Imports nothing of `notebook/` or `worker/`."""
