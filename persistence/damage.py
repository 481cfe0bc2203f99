"""What stands beside the journal, read with suspicion: a row may have been changed by hand, or by a failing disk."""

from __future__ import annotations

import json
from typing import Any


def read_ids(stored: Any) -> tuple[list[str], str]:
    """Return the open request ids of a conversation's row, or none and what is wrong with them."""
    try:
        ids = json.loads(stored)
    except (ValueError, TypeError, RecursionError) as error:
        return [], f"open_request_ids is no JSON: {error}"
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        return [], "open_request_ids is no list of ids"
    return ids, ""
