"""Result stores. `base.py` is the seam."""
