"""Worker kernels of one model version: where they run, how they start, what happens when they die."""
