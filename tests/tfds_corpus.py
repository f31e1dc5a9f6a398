"""A TFDS data folder with a small corpus in several files, as TFDS writes C4."""

import pathlib

import tensorflow_datasets as tfds


def prepare(data_dir: pathlib.Path, splits: dict[str, list[str]], shards: int) -> None:
    """Has TFDS write "own_corpus/en:1.0.0" of the splits' texts, each split in so many files."""
    with tfds.core.registered.skip_registration():

        class OwnCorpus(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="en")]

            def _info(self):
                features = {"text": tfds.features.Text(), "url": tfds.features.Text()}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, manager):
                return {split: self._generate_examples(texts) for split, texts in splits.items()}

            def _generate_examples(self, texts):
                for number, text in enumerate(texts):
                    yield number, {"text": text, "url": f"address {number}"}

    builder = OwnCorpus(config="en", data_dir=data_dir)
    config = tfds.download.DownloadConfig(num_shards=shards)
    builder.download_and_prepare(download_config=config)
