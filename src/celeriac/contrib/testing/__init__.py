"""Help for testing applications."""
