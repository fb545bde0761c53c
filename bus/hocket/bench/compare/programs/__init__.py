"""The programs that run the saga, each in the environment of its own system."""
