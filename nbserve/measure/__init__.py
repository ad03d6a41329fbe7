"""Measuring an endpoint: load from processes of their own, honest latencies, a verdict.

`bench.py` is the way in (called by the verb `bench`; options.py). It aims at a target (target.py), drives load
processes (crew.py outside, load*.py inside, messages.py between) and adds up what they say (measured.py, stats.py).
What that means is decided in pure code: verdict.py, search.py, arrivals.py. The result (result.py) is kept by
history.py and shown by report.py and plots.py.
"""
