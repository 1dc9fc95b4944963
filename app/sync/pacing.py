"""How long a lane holds before it reads, so that more changes share its calls. Pure.

Batches are made by pressure, not by waiting: with the budget nearly whole a change starts at once; as it is spent the
lane holds longer and each call carries more.
"""

FULL_PAGE = 100  # a page of tickets: more waiting links than this do not make a read cheaper
FREE_SHARE = 0.04  # of the budget is spent without holding
HOLD_MAX_SECONDS = 4.0  # an interactive change must still arrive within seconds


def hold_seconds(pressure: float, waiting: int) -> float:
    """Seconds since the oldest change that a lane lets pass before it reads.

    ``pressure`` is the spent share of the tighter side's budget (0 to 1), ``waiting`` how many links are due.
    """
    if waiting >= FULL_PAGE or pressure <= FREE_SHARE:
        return 0.0
    return HOLD_MAX_SECONDS * min(1.0, (pressure - FREE_SHARE) / 0.5)
