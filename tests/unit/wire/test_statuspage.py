"""The status page: two processes see one another's words, at the offsets that the protocol names."""

from __future__ import annotations

import os
import struct

from nbserve.wire.statuspage import STAGES, StatusPage


def test_both_sides_see_the_same_page_at_documented_offsets() -> None:
    gateway = StatusPage.create()
    worker = StatusPage(os.dup(gateway.fd))
    try:
        worker.set_progress(2**63 + 5, "inference", 3)
        assert gateway.progress == (2**63 + 5, "inference", 3)
        gateway.cancelled = 77
        assert worker.cancelled == 77
        raw = os.pread(gateway.fd, 64, 0)
        assert struct.unpack_from("<QII", raw, 0) == (2**63 + 5, STAGES.index("inference"), 3)
        assert struct.unpack_from("<Q", raw, 32) == (77,)
        assert STAGES.index("inference") == 7  # docs/worker-protocol.md
    finally:
        worker.close()
        gateway.close()
        gateway.close()
