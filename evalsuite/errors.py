"""The errors that a user can meet, each with the exit code that it ends a command with."""

from __future__ import annotations


class EvalsuiteError(Exception):
    """Base of every error raised on purpose: it names what is wrong and what to do."""

    exit_code = 3


class UsageError(EvalsuiteError):
    """A wrong command line, policy or recipe."""

    exit_code = 2


class PolicyError(UsageError):
    """A policy that does not validate."""


class DataError(EvalsuiteError):
    """A data set that cannot be judged: missing, empty, or with too little to read."""


class ModelError(EvalsuiteError):
    """A model that is not at hand, or whose weights are not the recorded ones."""


class PluginError(EvalsuiteError):
    """A plugin that is offered twice, cannot be imported, or is not what it should be."""
