"""The engine: who owns, what is read, how an event lives, how it is committed."""
