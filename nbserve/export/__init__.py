"""From a served bundle to an image that runs the very same folder. Runs in the notebook's kernel or the CLI.

`image.py` tells the story; jinja2, packaging and pip are used at the point of need.
"""

from __future__ import annotations
