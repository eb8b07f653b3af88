"""VGG19: its convolutions, and a pass through it forward and backward."""
