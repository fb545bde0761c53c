"""Looking into the log: what happened, why, and whether it is as promised. Nothing here handles events."""
