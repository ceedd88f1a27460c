"""Knows which values of restic's environment are secret, and masks them in messages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

_SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|SAS$|_COMMAND$", re.IGNORECASE)
# These name a file, a folder or a socket, which a message should show.
_PLACE_NAME = re.compile(
    r"_FILE$|_SOCK$|_DIR(ECTORY)?$|^GOOGLE_APPLICATION_CREDENTIALS$|_URL$", re.IGNORECASE
)
_USERINFO = re.compile(r"://[^/@\s]*(?::[^@\s]*)?@")
_URL_PASSWORD = re.compile(r"://[^/@\s:]*:(\S+)@")


class Mask:
    """Replaces every secret of an environment by ``***`` in a text."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        secrets = set[str]()
        for name, value in environment.items():
            if _SECRET_NAME.search(name) and not _PLACE_NAME.search(name):
                secrets.add(value.strip())
            secrets.update(_URL_PASSWORD.findall(value))
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, text: str) -> str:
        return self._pattern.sub("***", _USERINFO.sub("://***@", text))


def _forms(secret: str) -> set[str]:
    """A secret as programs print it: bare, in a URL, in JSON, in Go's JSON."""
    quoted = json.dumps(secret, ensure_ascii=False)[1:-1]
    escaped = quoted.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return {secret, unquote(secret), quote(secret, safe=""), quote(secret), quoted, escaped}
