"""The error for spaces and budgets that are unknown or impossible."""


class SpaceError(ValueError):
    """An architecture outside a space, an unknown or impossible space, or a budget that can't be met; says the rule
    and the value."""
