"""A SentencePiece vocabulary with T5's special ids, trained on a sample of a corpus.

python -m prompt_tuning_jax.train_vocabulary --files="novels/*.txt" --output=novels.model
"""

if __name__ == "__main__":
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("train_vocabulary"))

import itertools
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from prompt_tuning_jax import cache, vocabulary
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.progress import Progress
from prompt_tuning_jax.tasks.corpora import LONGEST, Shard, Stream


def train_vocabulary(
    *,
    texts: Stream,
    output: str,
    pieces: int = 32_000,
    characters: int = 20_000_000,
    character_coverage: float = 0.9995,
    byte_fallback: bool = False,
    data_dir: str | None = None,
    random_seed: int = 0,
) -> None:
    """Writes the model into the file `output`, at once or not at all.

    pieces: the vocabulary's size, without the sentinels (EXTRA_IDS), which come on top wherever it
    is used; characters: the size of the sample (`sample`); character_coverage: what part of the
    sample's characters the pieces spell, the rarest being unknown; byte_fallback: 256 of the pieces
    are bytes, which spell the unknown ones. The same corpus and numbers give the same file. Raises
    UserError for a corpus that cannot be read and for more pieces than it gives.
    """
    for name, value in (("PIECES", pieces), ("CHARACTERS", characters)):
        if value < 1:
            raise UserError(f"{name} = {value}: at least 1")
    if not 0 < character_coverage <= 1:
        raise UserError(f"CHARACTER_COVERAGE = {character_coverage}: above 0, at most 1")
    file = pathlib.Path(output)
    if file.is_dir():
        raise UserError(f"{output} is a folder: name the file to write")
    shards = texts.shards("train", data_dir)
    found: list[str] = []
    with Progress("sample", characters, unit="character", patience=5) as progress:
        for text in sample(shards, characters, random_seed):
            found.append(text)
            progress.update(len(text))
    if not found:
        raise UserError(f"no text in {texts.origin('train', data_dir)}")
    size = sum(map(len, found))
    print(f"{pieces} pieces of {len(found)} documents, {size} characters …", file=sys.stderr)
    began = time.monotonic()
    content = vocabulary.train(
        found,
        pieces,
        character_coverage=character_coverage,
        byte_fallback=byte_fallback,
        # in bytes; what is longer would be left out
        max_sentence_length=4 * LONGEST,
    )
    cache.write(file, content)
    seconds = time.monotonic() - began
    print(f"{output}: {len(content)} bytes, after {seconds:.0f} s", file=sys.stderr)


def sample(shards: Sequence[Shard], characters: int, seed: int) -> Iterator[str]:
    """Documents from the beginning of every shard, of so many characters together or a few more.

    Each shard gives as much as the others, and more where others have less. The shards are in an
    order of the seed.
    """
    left = characters
    # documents that each shard has given; not the shards that have no more
    given = {int(shard): 0 for shard in np.random.default_rng(seed).permutation(len(shards))}
    while given and left > 0:
        share = -(-left // len(given))
        for shard, count in list(given.items()):
            wanted = min(share, left)
            if wanted <= 0:
                return
            for text in itertools.islice(shards[shard].texts(), count, None):
                yield text
                given[shard] += 1
                left -= len(text)
                wanted -= len(text)
                if wanted <= 0:
                    break
            else:
                del given[shard]
