"""The error and the warning that picopq raises."""

from ._native import PicoPQError

__all__ = ["PicoPQError", "PicoPQWarning"]


class PicoPQWarning(UserWarning):
    """The result is usable, but something about it should be known."""


PicoPQWarning.__module__ = "picopq"
