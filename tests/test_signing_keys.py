"""Where a signing key may be: a file, the environment, KMS. None is ever shown."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ftdm_assets.kms_key import KmsUnreachableError
from ftdm_assets.provenance.keys import LocalKey, SigningKeyError
from ftdm_assets.signing import public_key, signing_key
from tests.local_aws import point_to
from tests.local_kms import Keys, local_kms

MESSAGE = b"a statement"


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    """Run a KMS that the AWS environment names; give its keys."""
    with local_kms() as (url, keys):
        point_to(monkeypatch, url)
        yield keys


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key, path = LocalKey.new(), tmp_path / "key.pem"
    path.write_bytes(key.pem())
    path.chmod(0o600)
    found = signing_key(f"file:{path}", tmp_path)
    assert found.public == key.public
    assert key.public.verifies(found.sign(MESSAGE), MESSAGE)
    assert not key.public.verifies(found.sign(MESSAGE), MESSAGE + b"!")
    path.chmod(0o640)
    with pytest.raises(SigningKeyError, match=r"others can read this private key \(mode 0640\)"):
        signing_key(f"file:{path}", tmp_path)


def test_the_environment_gives_a_key_in_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = LocalKey.new()
    monkeypatch.setenv("A_KEY", key.pem().decode().replace("\n", "\\n"))
    assert signing_key("env:A_KEY", tmp_path).public == key.public
    assert public_key("env:A_KEY", tmp_path).key_id == key.public.key_id
    secret = "".join(key.pem().decode().split("\n")[1:-2])
    assert secret not in repr(signing_key("env:A_KEY", tmp_path))
    monkeypatch.setenv("A_KEY", secret)
    with pytest.raises(SigningKeyError, match="environment variable A_KEY") as raised:
        signing_key("env:A_KEY", tmp_path)
    assert secret not in str(raised.value)
    with pytest.raises(SigningKeyError, match="ANOTHER is not set"):
        signing_key("env:ANOTHER", tmp_path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    with pytest.raises(SigningKeyError, match="P-256"):
        signing_key(f"file:{path}", tmp_path)
    with pytest.raises(SigningKeyError, match="names no key"):
        signing_key("else:where", tmp_path)


def test_kms_signs_and_its_key_never_leaves(kms: Keys, tmp_path: Path) -> None:
    kms["alias/ftdm"] = kms["1234"] = ec.generate_private_key(ec.SECP256R1())
    key = signing_key("kms:alias/ftdm", tmp_path)
    assert key.public.verifies(key.sign(MESSAGE * 1000), MESSAGE * 1000)
    assert key.public == public_key("kms:1234", tmp_path)
    # Its alias is moved to another key between two calls: what comes is not taken.
    kms["alias/ftdm"] = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SigningKeyError, match="signed with another key than it showed"):
        key.sign(MESSAGE)
    with pytest.raises(SigningKeyError, match=r"KMS refused get_public_key \(NotFoundException\)"):
        signing_key("kms:alias/nobody", tmp_path)


def test_a_kms_that_cannot_be_reached_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(KmsUnreachableError, match="KMS could not be reached"):
        signing_key("kms:alias/ftdm", tmp_path)
