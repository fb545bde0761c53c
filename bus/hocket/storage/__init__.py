"""Copies of a domain outside the log: taking them, checking them, bringing them back."""
