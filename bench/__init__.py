"""Benchmarks: ours, its peers and the raw loop, measured side by side in one run. See README.md here."""
