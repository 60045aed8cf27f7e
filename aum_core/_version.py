"""The version of the library and of the layout of ``run.json``, kept here alone."""

__version__ = "2.0.0.dev0"
RUN_FORMAT = 1
