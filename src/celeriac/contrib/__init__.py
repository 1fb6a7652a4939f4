"""What belongs to other projects: Django, test suites."""
