"""These run only inside a network of their own, where all of 10.1.0.0/16 is this machine."""

import os

collect_ignore_glob = [] if os.environ.get("OWN_NETWORK") == "1" else ["*"]
