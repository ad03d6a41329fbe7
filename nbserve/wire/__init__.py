"""Bytes and their meanings: frames between gateway and worker, bodies <-> rows, the management API's JSON.

Pure: nothing here opens a socket or reads a clock. Shared by the gateway, the workers and the notebook.
"""
