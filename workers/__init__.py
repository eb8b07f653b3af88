"""What renders: the engine, and the process that claims jobs and feeds it."""
