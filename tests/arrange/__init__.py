"""What tests set up: each module by what it makes; conftest.py files make fixtures of it."""
