"""A certificate authority of one's own, and HTTPS servers on loopback that it vouches for."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

VARIABLES = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("GDAL_CURL_CA_BUNDLE", "AWS_CA_BUNDLE"),
)
_AUTHORITY = (
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 3650 "
    "-subj /CN=own-authority -addext basicConstraints=critical,CA:TRUE "
    "-addext keyUsage=critical,keyCertSign,cRLSign"
)
_REQUEST = "openssl req -newkey rsa:2048 -nodes -keyout key.pem -out server.csr -subj /CN=127.0.0.1"
_SIGN = (
    "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem "
    "-days 3650 -extfile extensions"
)


def make_authority(folder: Path) -> Path:
    """Make an authority and a server's key with openssl; return the authority's certificate."""
    (folder / "extensions").write_text(
        "subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n"
    )
    for command in (_AUTHORITY, _REQUEST, _SIGN):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem"


def server_context(authority: Path) -> ssl.SSLContext:
    """Return the context of a server whose certificate the authority has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.with_name("server.pem"), authority.with_name("key.pem"))
    return context


def clear_authorities(environment: pytest.MonkeyPatch) -> None:
    """Take away all variables that name authorities."""
    for variable in VARIABLES:
        environment.delenv(variable, raising=False)
