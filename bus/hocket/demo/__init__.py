"""What `hocket demo` needs besides the crew: documents for a fresh machine, and a check of the brief."""
