"""The first table."""
