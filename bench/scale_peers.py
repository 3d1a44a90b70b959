"""One peer on the rows of the bench of scale; runs in an environment that has the peers.

Called by ``bench.scale`` as ``python scale_peers.py TOOL TEXTS OUT``; imports nothing of this
project. All compare the same sets where they compare sets: the character 3-grams of the text in
lower case without punctuation.
"""

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THRESHOLD = 0.8
PERMUTATIONS = 128
_NOT_WORDS = re.compile(r"[^\w\s]")


def plain(text: str) -> str:
    """Return the text as the sets are cut from it."""
    return " ".join(_NOT_WORDS.sub("", text.lower()).split() or text.split())


def datasketch(texts: list[str]) -> list[int]:
    """Drop what the LSH index finds among the rows before it."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    dropped = []
    for place, text in enumerate(texts):
        words = plain(text)
        grams = {words[at : at + 3].encode() for at in range(max(1, len(words) - 2))}
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch(list(grams))
        if index.query(sketch):
            dropped.append(place)
        else:
            index.insert(place, sketch, check_duplication=False)
    return dropped


def text_dedup(texts: list[str]) -> list[int]:
    """Run its MinHash program; its words are made characters, so that its 3-grams are ours."""
    import pyarrow as pa
    from pyarrow import parquet
    from text_dedup import minhash
    from text_dedup.config import Config, MinHashAlgorithmConfig, base

    def characters(_: Any) -> Any:
        return lambda text: list(plain(text))

    MinHashAlgorithmConfig._get_tokenize_func = characters
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        parquet.write_table(pa.table({"text": texts, "n": range(len(texts))}), place / "in.parquet")
        (place / "config.toml").write_text(
            f"""
[input]
input_type = "local_files"
file_type = "parquet"
[input.read_arguments]
path = "parquet"
data_files = "{place}/in.parquet"
split = "train"
cache_dir = "{place}/cache"
[algorithm]
algorithm_name = "minhash"
text_column = "text"
num_perm = {PERMUTATIONS}
threshold = {THRESHOLD}
ngram_size = 3
min_length = 1
num_proc = 2
[output]
output_dir = "{place}/out"
[debug]
"""
        )
        config: Config = base.load_config_from_toml(place / "config.toml")
        minhash.main(config)
        import datasets

        kept = set(datasets.load_from_disk(str(place / "out"))["n"])
    return [n for n in range(len(texts)) if n not in kept]


def semhash(texts: list[str]) -> list[int]:
    """Drop by the nearness of embeddings: a small static model that comes as a package."""
    import static_model
    from model2vec import StaticModel
    from semhash import SemHash

    model = StaticModel.from_pretrained(str(Path(static_model.__file__).parent / "model"))
    rows = [{"text": text, "n": str(place)} for place, text in enumerate(texts)]
    result = SemHash.from_records(rows, columns=["text"], model=model).self_deduplicate(0.9)
    kept = {int(row["n"]) for row in result.selected}
    return [n for n in range(len(texts)) if n not in kept]


def main() -> None:
    """Run a tool and write what it dropped and how long it took."""
    tool, texts, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    rows = json.loads(texts.read_text(encoding="utf-8"))
    run = {"datasketch": datasketch, "text-dedup": text_dedup, "semhash": semhash}[tool]
    started, before = time.perf_counter(), os.times()
    dropped = run(rows)
    seconds = time.perf_counter() - started
    # With the workers that it waited for.
    cpu = sum(os.times()[:4]) - sum(before[:4])
    out.write_text(json.dumps({"dropped": dropped, "seconds": seconds, "cpu": cpu}))


if __name__ == "__main__":
    main()
