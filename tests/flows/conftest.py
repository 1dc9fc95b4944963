"""Stories over the whole application, told on real sockets."""

from tests.support.stage import idle_stage, stage

__all__ = ["idle_stage", "stage"]
