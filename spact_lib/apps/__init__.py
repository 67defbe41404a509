"""Tools for one's own videos, on the library."""
