"""Pictures as files: what they are, and what they look like."""
