"""The command line of the three servers: what to serve, where, and their settings."""

import argparse


def parse() -> argparse.Namespace:
    """WORKLOAD --port P [--wait-ms W] [--max-batch-size B] [--workers N] [--threads T]; others are let through."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("workload", choices=["noop", "mlp", "encoder"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--wait-ms", type=float, default=0.0)
    parser.add_argument("--max-batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_known_args()[0]
