"""A local KMS: two operations of its protocol, with keys that really sign.

moto's KMS hashes a digest once more, so a signature of it does not verify; AWS signs it as it is.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

Keys = dict[str, ec.EllipticCurvePrivateKey]


class _Handler(BaseHTTPRequestHandler):
    keys: Keys

    def do_POST(self) -> None:
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.keys.get(asked["KeyId"])
        if key is None:
            return self._answer(400, {"__type": "NotFoundException", "message": "no such key"})
        if operation == "GetPublicKey":
            der = key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            return self._answer(200, {"PublicKey": base64.b64encode(der).decode()})
        assert (operation, asked["SigningAlgorithm"]) == ("Sign", "ECDSA_SHA_256")
        algorithm: Any = hashes.SHA256()
        message = base64.b64decode(asked["Message"])
        if asked["MessageType"] == "DIGEST":
            algorithm = Prehashed(algorithm)
        signature = key.sign(message, ec.ECDSA(algorithm))
        return self._answer(200, {"Signature": base64.b64encode(signature).decode()})

    def _answer(self, status: int, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def local_kms() -> Iterator[tuple[str, Keys]]:
    """Run a KMS; give its address, and its keys by id or alias, to which one may add."""
    keys: Keys = {}
    handler = type("Handler", (_Handler,), {"keys": keys})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", keys
    server.shutdown()
    server.server_close()
