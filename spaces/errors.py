"""What a user of a space can get wrong."""


class SpaceError(ValueError):
    """An architecture outside a space, an unknown or impossible space, or a budget that can't be met; says the rule
    and the value."""
