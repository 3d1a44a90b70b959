"""Envelopes and model signatures: other people's tools read them, and no byte of them is free."""

import json
from pathlib import Path

import model_signing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer._key import SSlibKey

from ftdm_assets.provenance.digests import folder_digest, folder_files
from ftdm_assets.provenance.dsse import SignatureError, open_signed, signed
from ftdm_assets.provenance.keys import LocalKey, PublicKey, SigningKeyError
from ftdm_assets.provenance.model_signature import (
    differences,
    listing_digest,
    sign_model,
    signed_listing,
)
from ftdm_assets.provenance.statements import statement_of
from ftdm_assets.provenance.trust import Trust, read_trust, revoke_key, trust_key

KEY, OTHER = LocalKey.new(), LocalKey.new()
TRUST = Trust({KEY.public.key_id: KEY.public}, {})
STATEMENT = statement_of("urn:ftdm:test:v1", {"demo": "1" * 64}, {"text": "Zürich", "n": 1.5})
ENVELOPE = signed(STATEMENT, KEY)
LISTING = [{"name": "a.bin", "algorithm": "sha256", "digest": "2" * 64}]
BUNDLE = sign_model("demo", LISTING, KEY)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "sub" / "config.json").write_text("{}")
    (folder / "sub-b").write_text("a name that sorts before a folder's")
    return folder


def test_what_was_signed_comes_back() -> None:
    opened = open_signed(ENVELOPE, TRUST)
    assert (opened.statement, opened.key_id) == (STATEMENT, KEY.public.key_id)


def test_the_reference_implementation_of_dsse_verifies_an_envelope() -> None:
    def verify(key: LocalKey) -> None:
        public = SSlibKey(
            key.public.key_id, "ecdsa", "ecdsa-sha2-nistp256", {"public": key.public.pem.decode()}
        )
        envelope = Envelope.from_dict(json.loads(ENVELOPE))
        assert json.loads(envelope.payload) == STATEMENT
        envelope.verify([public], threshold=1)

    verify(KEY)
    with pytest.raises(VerificationError):
        verify(OTHER)


def test_the_tool_of_openssf_verifies_a_model(model: Path, tmp_path: Path) -> None:
    signature, public = tmp_path / "model.sig", tmp_path / "key.pem"
    signature.write_bytes(sign_model("demo", folder_files(model), KEY))
    public.write_bytes(KEY.public.pem)
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
    config.verify(model, signature)
    listing, key_id = signed_listing(signature.read_bytes(), TRUST)
    assert (listing_digest(listing), key_id) == (folder_digest(model), KEY.public.key_id)
    (model / "sub" / "config.json").write_text("{ }")
    with pytest.raises(ValueError, match=r"Hash mismatch for 'sub/config\.json'"):
        config.verify(model, signature)
    assert differences(listing, folder_files(model)) == ["sub/config.json was changed"]


def test_its_own_signature_with_our_key_file_verifies_too(model: Path, tmp_path: Path) -> None:
    # Keys are interchangeable: the tool signs with the file that this project makes.
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(KEY.pem())
    public.write_bytes(KEY.public.pem)
    signing = model_signing.signing.Config().use_elliptic_key_signer(private_key=private)
    signing.sign(model, tmp_path / "model.sig")
    hint = json.loads((tmp_path / "model.sig").read_text())["verificationMaterial"]["publicKey"]
    assert hint["hint"] == KEY.public.key_id


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_byte_of_a_signature_can_be_changed(data: st.DataObject) -> None:
    content, read = data.draw(st.sampled_from([(ENVELOPE, open_signed), (BUNDLE, signed_listing)]))
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SignatureError):
        read(bytes(changed), TRUST)


@pytest.mark.parametrize(
    ("trust", "told"),
    [
        (Trust({}, {}), "is not trusted here"),
        (Trust({OTHER.public.key_id: OTHER.public}, {}), "is not trusted here"),
        (Trust(TRUST.keys, {KEY.public.key_id: "stolen"}), r"was revoked \(stolen\)"),
        (Trust({KEY.public.key_id: OTHER.public}, {}), "the signature is not of key"),
    ],
)
def test_a_key_that_does_not_count(trust: Trust, told: str) -> None:
    for content, read in ((ENVELOPE, open_signed), (BUNDLE, signed_listing)):
        with pytest.raises(SignatureError, match=told):
            read(content, trust)


def test_a_second_signature_or_field_is_refused() -> None:
    document = json.loads(ENVELOPE)
    for changed in (
        {**document, "signatures": document["signatures"] * 2},
        {**document, "note": "unsigned"},
        {**document, "payloadType": "text/plain"},
        {**document, "signatures": []},
    ):
        content = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        with pytest.raises(SignatureError, match="no DSSE envelope"):
            open_signed(content, TRUST)


def test_a_trust_folder_is_read_back_and_a_changed_key_counts_for_nothing(tmp_path: Path) -> None:
    path = trust_key(tmp_path, KEY.public)
    trust_key(tmp_path, OTHER.public)
    assert set(read_trust(tmp_path).keys) == {KEY.public.key_id, OTHER.public.key_id}
    before = read_trust(tmp_path).digest()
    revoke_key(tmp_path, OTHER.public.key_id, by="jane", reason="left", at="2026-11-24T00:00:00")
    assert read_trust(tmp_path).revoked == {OTHER.public.key_id: "left, by jane on 2026-11-24"}
    assert read_trust(tmp_path).digest() != before
    path.write_bytes(OTHER.public.pem)
    assert KEY.public.key_id not in read_trust(tmp_path).keys


def test_a_private_key_is_never_shown() -> None:
    secret = KEY.pem().decode().splitlines()[1]
    assert secret not in repr(KEY)
    broken = KEY.pem().replace(secret.encode(), secret[::-1].encode())
    with pytest.raises(SigningKeyError) as error:
        LocalKey.parse(broken, "here")
    assert secret[:20] not in str(error.value)
    assert secret[::-1][:20] not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize("content", [b"", b"not a key", KEY.pem()])
def test_what_is_no_public_key_says_so(content: bytes) -> None:
    with pytest.raises(SigningKeyError, match="no public key on the curve P-256"):
        PublicKey.parse(content, "here")
