"""Saved models: raw tensors and the recipe in one safetensors file."""
