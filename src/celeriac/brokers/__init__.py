"""Transports. `base.py` is the seam; `memory.py` is the reference implementation: read that first."""
