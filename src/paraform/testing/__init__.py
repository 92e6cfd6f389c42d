"""The laws that a parametrization can be held against."""
