"""The command line. A module with a Typer called `commands` takes part in it; nothing has to be registered."""
