"""The pages in ``docs/sets`` and the README's catalogue, made from the table of sets and the docstrings."""
