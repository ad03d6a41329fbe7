"""In the user's kernel: magics, the history of cells, this notebook's gateway, progress and card."""
