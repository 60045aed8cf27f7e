"""The version, kept here alone."""

__version__ = "2.0.0.dev0"
