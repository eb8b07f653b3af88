"""Pictures as files: what they say of themselves, and how they are decoded, out of harm's way."""
