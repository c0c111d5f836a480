"""Addresses with passwords. They are used, but never written or shown.

`GHOSTNAS_STORAGE` in the environment is the address of Optuna's storage; it stands before a recipe's or an option's.
"""

import os
import re

from search.errors import UserError

STORAGE = "GHOSTNAS_STORAGE"
HIDDEN = "***"


def without_secrets(text: str) -> str:
    """Text whose addresses have neither a password nor any value in their query."""
    text = re.sub(r"(://[^/@:?\s]*:)\S*@", rf"\1{HIDDEN}@", text)
    return re.sub(r"(://[^\s?]*\?)(\S+)", lambda m: m[1] + re.sub(r"=[^&]*", f"={HIDDEN}", m[2]), text)


def storage_address(configured: str | None) -> str | None:
    """The address of Optuna's storage: the environment's, or else the configured one.

    Raises:
        UserError: it was said in a run that is gone on with, which keeps no secrets.
    """
    address = os.environ.get(STORAGE) or configured
    if address and HIDDEN in address:
        raise UserError(f"the secrets of the storage {address} are not kept in a run: {STORAGE} is its whole address")
    return address
