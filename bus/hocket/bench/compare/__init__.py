"""The same saga of four steps on hocket and on other systems, on one machine and in one run."""
