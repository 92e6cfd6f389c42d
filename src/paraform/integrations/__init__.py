"""Hooks for other projects, each imported only when asked for."""
