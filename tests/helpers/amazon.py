"""The record and the archive of the Amazon set, on a server of the tests."""

from __future__ import annotations

import hashlib
import json

from tests.helpers.servers import FileServer

FOLDERS = {
    "train": ("Training/image", "Training/label"),
    "validation": ("Validation/images", "Validation/masks"),
    "test": ("Test/image", "Test/mask"),
}
RECORD, ARCHIVE = "/api/records/4498086", "/files/AMAZON.rar/content"
# The record is the first answer of a run, and cuts are for the archive.
RECORD_WHOLE = 10_000


def publish(server: FileServer, archive: bytes, **changes: object) -> str:
    """Put an archive and its record on the server, and return the record's URL."""
    entry = {
        "key": "AMAZON.rar",
        "size": len(archive),
        "checksum": f"md5:{hashlib.md5(archive).hexdigest()}",
        "links": {"self": server.url + ARCHIVE},
        **changes,
    }
    other = {"key": "ATLANTIC FOREST.rar", "links": {"self": f"{server.url}/other"}}
    server.files[RECORD] = json.dumps({"id": 4498086, "files": [other, entry]}).encode()
    server.files[ARCHIVE] = archive
    server.etags[ARCHIVE] = f'"{hashlib.sha256(archive).hexdigest()[:9]}"'
    return server.url + RECORD
