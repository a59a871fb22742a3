"""The application's OpenAPI description."""

from __future__ import annotations

import json
from typing import Any

from server.app.application import description

DOCUMENT: dict[str, Any] = json.loads(description())
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
