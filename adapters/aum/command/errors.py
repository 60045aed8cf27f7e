"""What is wrong with what the user gave, as opposed to what is wrong with this program."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(Exception):
    """Something that the user can put right; its message is one line for them to read."""
