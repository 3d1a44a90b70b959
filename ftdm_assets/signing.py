"""The key that signs, from where the settings say: this home, a file, the environment, or KMS.

Invariants:
* A private key lies in a file that only its owner can read, in the environment, or in KMS; it never
  reaches a log, a manifest or the UI.
* Only the key that this home makes for itself is trusted unasked; every other needs
  ``ftdm signing-key trust``.
"""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from ftdm_assets.home import trust_folder
from ftdm_assets.kms_key import KmsKey
from ftdm_assets.model_folder import ModelFolder
from ftdm_assets.provenance.keys import LocalKey, PublicKey, SigningKey, SigningKeyError
from ftdm_assets.provenance.trust import trust_key

HOME_KEY = "home"


def signing_key(setting: str, home: Path) -> SigningKey:
    """Return the key that ``signing.key`` names; the home's own is made on first use.

    Args:
        setting: ``home``, ``file:PATH``, ``env:NAME`` or ``kms:KEY``.
        home: the home folder.

    Raises:
        SigningKeyError: if there is no usable key there.
    """
    kind, _, rest = setting.partition(":")
    if kind == HOME_KEY:
        path = key_file(home)
        if not path.exists():
            make_home_key(home)
        return _from_file(path)
    if kind == "file":
        return _from_file(Path(rest).expanduser())
    if kind == "env":
        text = os.environ.get(rest, "")
        if not text.strip():
            raise SigningKeyError(
                f"signing.key is {setting}, but {rest} is not set; put the private key's PEM there"
            )
        # Some launchers hand a file's lines on in one, with the line ends written out.
        return LocalKey.parse(text.replace("\\n", "\n").encode(), f"environment variable {rest}")
    if kind == "kms":
        return KmsKey(rest)
    raise SigningKeyError(
        f"signing.key: {setting!r} names no key; write home, file:PATH, env:NAME or kms:KEY"
    )


def setting_of(model: ModelFolder) -> str:
    """Return a domain model's ``signing.key``, its file found from the model's folder."""
    setting = model.settings.signing.key
    kind, _, rest = setting.partition(":")
    return f"file:{model.resolve(rest)}" if kind == "file" else setting


def public_key(source: str, home: Path) -> PublicKey:
    """Return the public key that a PEM file, or a setting of a signing key, names.

    Raises:
        SigningKeyError: if there is none.
    """
    if source == HOME_KEY or source.startswith(("file:", "env:", "kms:")):
        return signing_key(source, home).public
    path = Path(source).expanduser()
    try:
        return PublicKey.parse(path.read_bytes(), source)
    except OSError as error:
        raise SigningKeyError(f"{source}: {error.strerror}; give a PEM file or kms:KEY") from None


def key_file(home: Path) -> Path:
    """Return where a home keeps its own signing key."""
    return home / "keys" / "signing.pem"


def home_key_id(home: Path) -> str:
    """Return the id of the home's own key; blank where it has none."""
    path = key_file(home)
    return _from_file(path).public.key_id if path.exists() else ""


def make_home_key(home: Path) -> PublicKey:
    """Make a new key of the home and trust it; one that is there is kept aside under its id."""
    path, new = key_file(home), LocalKey.new()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        path.rename(path.with_name(f"signing-{_from_file(path).public.key_id[:16]}.pem"))
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".signing.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(new.pem())
            stream.flush()
            os.fsync(stream.fileno())
        # A link, not a rename: of two processes that make the first key, one wins.
        with contextlib.suppress(FileExistsError):
            Path(path).hardlink_to(aside)
    finally:
        Path(aside).unlink(missing_ok=True)
    made = _from_file(path).public
    trust_key(trust_folder(home), made)
    return made


def _from_file(path: Path) -> LocalKey:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise SigningKeyError(
            f"{path}: {error.strerror}; signing.key names the file of a private key"
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise SigningKeyError(
            f"{path}: others can read this private key (mode {stat.S_IMODE(mode):04o}); "
            f"`chmod 600 {path}`, and make a new key if somebody may have read it"
        )
    return LocalKey.parse(content, str(path))
