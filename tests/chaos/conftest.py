"""Promises, and what tries to break them."""

from tests.support.stage import idle_stage, stage

__all__ = ["idle_stage", "stage"]
