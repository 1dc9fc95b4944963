"""POST takes an array: every element is planned, saved, answered (HaloPSA wire contract, writes)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.sandbox.halopsa.calls import Call, Reply, Row
from app.sandbox.halopsa.refusals import Refused

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

# Saves what was planned and returns what shows it: the shape is made only for the elements that are answered.
Shape = Callable[[], Row]
Commit = Callable[[], Shape]
Plan = Callable[["TenantWorld", Call, Row], Commit]


def save_all(world: "TenantWorld", call: Call, plan: Plan) -> Reply:
    """Plan and save the elements in order and answer as HaloPSA does: object, last object, or array.

    ``plan`` changes nothing and raises :class:`Refused`. With ``batch_atomic`` one refusal refuses all;
    otherwise the elements before it stay saved.
    """
    elements = call.elements()
    shapes: list[Shape] = []
    if world.switches.batch_atomic:
        commits = [_planned(world, call, plan, place, elements) for place in range(len(elements))]
        shapes = [commit() for commit in commits]
    else:
        shapes = [_planned(world, call, plan, place, elements)() for place in range(len(elements))]
    return _reply(world, call, shapes)


def _planned(world: "TenantWorld", call: Call, plan: Plan, place: int, elements: list[Row]) -> Commit:
    try:
        return plan(world, call, elements[place])
    except Refused as refused:
        raise refused.at(place, len(elements)) from None


def _reply(world: "TenantWorld", call: Call, shapes: list[Shape]) -> Reply:
    status = world.switches.post_status
    if call.flag("returnall") or world.switches.always_array or not shapes:
        return Reply(status, [shape() for shape in shapes])
    return Reply(status, shapes[-1]())
