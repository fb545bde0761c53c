"""Hosting: agents in a process, processes in a crew."""
