"""Named failures of ticket sync."""

from app.core.errors import Conflict, Invalid


class RelationshipNameTaken(Conflict):
    """Another relationship of the tenant has this name."""

    code = "relationship_name_taken"
    title = "Another relationship has this name"


class AlreadyRelated(Conflict):
    """Another relationship already keeps the tickets of these two desks in step: a second one would make every ticket
    twice."""

    code = "already_related"
    title = "These two desks are related already"


class RelationshipState(Conflict):
    """The relationship is in a state from which this is not possible."""

    code = "relationship_state"
    title = "The relationship is not in a state for this"


class BadSideSettings(Invalid):
    """The settings of a side do not fit the kind of its connection."""

    code = "bad_side_settings"
    title = "The settings of a side do not fit its connection"
