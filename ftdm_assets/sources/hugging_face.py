"""Labels from a Hugging Face dataset: a saved folder, or a Hub id at a commit.

Invariants:
* A Hub id is read at a commit hash only: a branch or a tag may come to mean something else. What
  the library has kept of an earlier reading is not used: when the Hub fails, it would take whatever
  commit it finds there.
* A folder that changes while it is read is an error, never a mixture.
* Class numbers become the class names that the dataset gives them.
* No code of a dataset is run: only data files are read (``datasets`` 4 and later cannot do else).
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ftdm_assets.hub import HubError, HubUnreachableError, asked
from ftdm_assets.label_settings import HuggingFaceSettings
from ftdm_assets.model_folder import DEFS, ModelFolder
from ftdm_assets.provenance.digests import folder_digest, json_digest
from ftdm_assets.settings import SettingsError
from ftdm_assets.sources.files import RecordDefaults, read_named_columns
from ftdm_assets.sources.http_json import ServerError
from ftdm_assets.sources.snapshot import Snapshot, read_unchanged
from ftdm_assets.sources.tables import SourceError

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HuggingFaceSource:
    """A dataset's split."""

    model: ModelFolder

    @property
    def _settings(self) -> HuggingFaceSettings:
        settings = self.model.settings.labels.hugging_face
        if settings is None:
            raise self._wrong(
                "hugging_face", "this section is needed; example: `dataset: ORG/NAME`"
            )
        return settings

    @property
    def _folder(self) -> Path | None:
        folder = self.model.resolve(self._settings.dataset)
        return folder if folder.is_dir() else None

    @property
    def description(self) -> str:
        """Return the dataset, its split and its commit."""
        named = self._settings
        commit = f" at {named.revision[:12]}" if named.revision else ""
        return f"{named.dataset}, split {named.split}{commit}"

    def state(self) -> str:
        """Return the digest of the folder and the split, or of the id, the commit and the split."""
        named, folder = self._settings, self._folder
        if folder is not None:
            return json_digest({"folder": folder_digest(folder), "split": named.split})
        if not named.revision or not _COMMIT.fullmatch(named.revision):
            raise self._wrong(
                "hugging_face.revision",
                f"{named.dataset!r} is no folder; for a dataset of the Hub give the 40 digits of a "
                f"commit, found {named.revision!r}",
            )
        return json_digest(named.model_dump())

    def read(self) -> Snapshot:
        """Read the split."""
        return read_unchanged(self.state, self._frame, f"{self.description}: the folder")

    def _frame(self) -> pd.DataFrame:
        settings = self.model.settings.labels
        name = f"{Path(self._settings.dataset).name}-{self._settings.split}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.parquet"
            _named(self._load(Path(folder))).to_parquet(path, index=False)
            try:
                return read_named_columns(
                    path,
                    settings.columns,
                    RecordDefaults(data_class=settings.data_class, source=self.description),
                )
            except SourceError as error:
                raise SourceError(str(error).replace(str(path), self.description)) from None

    def _load(self, aside: Path) -> Any:
        import datasets

        named, folder = self._settings, self._folder
        # The library may raise anything: its own errors, those of the network, of Arrow.
        try:
            if folder is None:
                return self._from_hub(aside)
            loaded = datasets.load_from_disk(str(folder))
        except HubUnreachableError as error:
            raise ServerError(str(error)) from None
        except HubError as error:
            raise SourceError(str(error)) from None
        except Exception as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise SourceError(
                f"{self.description}: cannot be read ({type(error).__name__}: {reason}); check "
                "dataset, config and split"
            ) from None
        if not isinstance(loaded, datasets.DatasetDict):
            return loaded
        if named.split not in loaded:
            raise self._wrong("hugging_face.split", f"expected one of: {', '.join(loaded)}")
        return loaded[named.split]

    def _from_hub(self, aside: Path) -> Any:
        import datasets

        named = self._settings
        info = asked(
            self.description, lambda api: api.dataset_info(named.dataset, revision=named.revision)
        )
        if info.sha != named.revision:
            raise SourceError(f"{self.description}: the Hub answers with the commit {info.sha}")
        return asked(
            self.description,
            lambda _: datasets.load_dataset(
                named.dataset,
                named.config,
                revision=named.revision,
                split=named.split,
                cache_dir=str(aside / "cache"),
            ),
        )

    def _wrong(self, key: str, what: str) -> SettingsError:
        return SettingsError(f"{self.model.folder / DEFS}: attributes.labels.{key}: {what}")


def _named(dataset: Any) -> pd.DataFrame:
    """Return a dataset's rows with class names in the place of class numbers."""
    import datasets

    frame: pd.DataFrame = dataset.with_format("arrow")[:].to_pandas()
    for column, feature in dataset.features.items():
        if isinstance(feature, datasets.ClassLabel):
            # Below nought stands for no label.
            frame[column] = [
                None if pd.isna(number) or number < 0 else feature.int2str(int(number))
                for number in frame[column]
            ]
    return frame
