"""Transports. `base.py` is the seam; `memory/` is the reference implementation: read that first."""
