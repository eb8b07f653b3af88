"""A picture from its start to its last iteration, and what memory that takes."""
