"""The gateway's door with TLS: one application behind both doors, and what cannot be is said."""

import ipaddress
import os
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from serving import tls
from serving.health import free_port, get_json
from serving.local_key import local_key
from tests.serving.serving_support import bearer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate of its own making for 127.0.0.1, its key, and the key of another."""
    folder, now = tmp_path_factory.mktemp("tls"), datetime.now(UTC)
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    made = {"certificate": certificate.public_bytes(pem)}
    for title, one in (("key", key), ("other", other)):
        made[title] = one.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    for title, content in made.items():
        (folder / title).write_bytes(content)
    return {title: str(folder / title) for title in made}


def asked(files: dict[str, str], **changes: str) -> dict[str, str]:
    given = {
        tls.CERTIFICATE: files["certificate"],
        tls.KEY: files["key"],
        tls.LISTEN: "127.0.0.1:8443",
    }
    return given | {getattr(tls, name): value for name, value in changes.items()}


def test_both_doors_lead_to_one_gateway(files: dict[str, str], tmp_path: Path) -> None:
    port, locked = free_port(), free_port()
    command = [sys.executable, "-m", "serving.gateway", "--home", str(tmp_path)]
    environment = os.environ | asked(files, LISTEN=f"127.0.0.1:{locked}")
    with subprocess.Popen([*command, "--port", str(port)], env=environment) as gateway:
        try:
            while get_json(f"http://127.0.0.1:{port}/health")[0] != 200:
                assert gateway.poll() is None
                time.sleep(0.05)
            trusted = ssl.create_default_context(cafile=files["certificate"])
            url = f"https://127.0.0.1:{locked}"
            with httpx.Client(verify=trusted, trust_env=False, timeout=10) as client:
                assert _patiently(client, f"{url}/health").status_code == 200
                assert client.get(f"{url}/v1/models").status_code == 401
                models = client.get(f"{url}/v1/models", headers=bearer(local_key(tmp_path)))
                assert models.json() == {"object": "list", "data": []}
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                httpx.get(f"{url}/health", trust_env=False)
            gateway.terminate()
            assert gateway.wait(20) == 0
        finally:
            gateway.kill()


def _patiently(client: httpx.Client, url: str) -> httpx.Response:
    end = time.monotonic() + 10
    while True:
        try:
            return client.get(url)
        except httpx.ConnectError:
            # This door opens a moment after the other.
            assert time.monotonic() < end
            time.sleep(0.05)


def test_without_the_variables_there_is_no_such_door() -> None:
    assert tls.door_of({}) is None
    assert tls.variables({tls.KEY: " "}) == {}


def test_a_relative_path_is_the_caller_s_own(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(files["key"]).parent)
    given = asked(files, CERTIFICATE="certificate", KEY="key")
    assert tls.variables(given) == asked(files)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"KEY": ""}, "FTDM_TLS_KEY is not set"),
        ({"LISTEN": "8443"}, "write HOST:PORT"),
        ({"LISTEN": "0.0.0.0:99999"}, "write HOST:PORT"),
        ({"KEY": "nowhere.pem"}, "No such file"),
        ({"KEY": "other"}, "MISMATCH"),
        ({"CERTIFICATE": "key"}, "name the PEM files"),
    ],
)
def test_what_cannot_be_served_is_said_with_its_variable(
    files: dict[str, str], changes: dict[str, str], told: str
) -> None:
    named = {name: files.get(value, value) for name, value in changes.items()}
    with pytest.raises(tls.TlsError, match=told):
        tls.door_of(asked(files, **named))
