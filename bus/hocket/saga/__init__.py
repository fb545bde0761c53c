"""What is known of a saga, and what follows from it: pure, for the coordinator to act on."""
