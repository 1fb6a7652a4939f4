"""The rows of the fault matrix, each a function of a `Ground` and of sizes; `table.py` lists them."""
