"""What needs a browser, an X server or the network of this machine: `make test-e2e` runs it, `make test` does not."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("RTSR_E2E") == "1" else ["test_*.py"]
