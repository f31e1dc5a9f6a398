"""A TFDS data folder made of official files by TFDS's own builders, without a network."""

import gzip
import json
import pathlib
import types
from unittest import mock

import tensorflow_datasets as tfds

# What TFDS downloads, by what its address has -> the file or folder below the official ones.
_DOWNLOADS = {
    "train-v1.1.json": "squad/train-v1.1.json",
    "dev-v1.1.json": "squad/dev-v1.1.json",
    "xquad.en.json": "xquad_en/xquad.en.json",
    "2BOtOJ7": "AX/AX.tsv",
    "train/NewsQA.jsonl.gz": "mrqa/train/NewsQA.jsonl.gz",
    "dev/NewsQA.jsonl.gz": "mrqa/dev/NewsQA.jsonl.gz",
    "dev/DROP.jsonl.gz": "mrqa/dev/DROP.jsonl.gz",
    "mrpc_dev_ids.tsv": "MRPC/mrpc_dev_ids.tsv",
    "msr_paraphrase_train.txt": "MRPC/msr_paraphrase_train.txt",
    "msr_paraphrase_test.txt": "MRPC/msr_paraphrase_test.txt",
}


def prepare(name: str, official: pathlib.Path, data_dir: pathlib.Path) -> None:
    """Has TFDS make its data set `name` ("super_glue/rte:1.0.2") of the folder of official files.

    A version that this TFDS only reads is what it makes under that version's name.
    """

    def fetched(address) -> str | dict:
        if isinstance(address, dict):
            return {key: fetched(inner) for key, inner in address.items()}
        places = [place for part, place in _DOWNLOADS.items() if part in address]
        return unpacked(official / places[0]) if places else str(official)

    def unpacked(path: pathlib.Path) -> str:
        if path.suffix != ".gz":
            return str(path)
        text = data_dir / "unpacked" / path.relative_to(official).with_suffix("")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_bytes(gzip.decompress(path.read_bytes()))
        return str(text)

    def downloads(self, **settings) -> types.SimpleNamespace:
        return types.SimpleNamespace(
            download=fetched,
            download_and_extract=fetched,
            downloaded_size=0,
            recorded_sizes_checksums={},
            download_callbacks=[],
        )

    name, _, version = name.partition(":")
    builder = tfds.builder(name, data_dir=data_dir)
    with mock.patch.object(type(builder), "_make_download_manager", downloads):
        builder.download_and_prepare()
    made = pathlib.Path(builder.data_dir)
    if version and version != made.name:
        info = json.loads((made / "dataset_info.json").read_text())
        made = made.rename(made.with_name(version))
        (made / "dataset_info.json").write_text(json.dumps(info | {"version": version}))
