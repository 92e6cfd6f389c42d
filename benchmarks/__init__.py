"""What is promised about speed and memory, measured; README.md says how to run it."""
