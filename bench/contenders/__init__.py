"""One folder per contender: `contender.py` for the harness, `app.py` for the contender's own environment."""
