"""The end-to-end harness: runs each check directly and through the proxy, and compares."""
