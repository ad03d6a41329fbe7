"""What all suites under tests/ share. The rules about skips and leftovers are in the conftest.py above this folder."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadlines: two busy cores say nothing about an example. In CI the same examples every time; elsewhere new ones.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
