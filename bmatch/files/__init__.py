"""Files: whole or not at all, and with bmatch's own headers."""
