"""What is minimised: content, style and total variation, and how they are weighed."""
