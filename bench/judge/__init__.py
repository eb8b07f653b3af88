"""How good a picture is, told without the loss that it was made with: see docs/judge.md."""
