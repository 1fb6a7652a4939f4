"""What happens to one call: no sockets, no settings, no threads."""
