"""The built-in backbone's vocabulary: `python -m prompt_tuning_jax.tasks.demo.vocabulary OUT.model`

Every word of the micro-world is one piece. All printable ASCII characters and some accented letters
are pieces too, so that any English text can be encoded without unknown tokens, if in many pieces.
"""

import argparse
import pathlib
import random
import re
import string
from itertools import islice

from prompt_tuning_jax import vocabulary
from prompt_tuning_jax.tasks.demo import DOWNSTREAM
from prompt_tuning_jax.tasks.demo.documents import documents
from prompt_tuning_jax.tasks.salient import unmarked

PIECES = 570
EXTRA_IDS = 32
_DOCUMENTS = 20_000
_ACCENTED = "áàâãäåæçéèêëíìîïñóòôöøúùûü‘’“”–—…"
_CHARACTERS = string.ascii_letters + string.digits + ".?" + _ACCENTED
# Named like the words: how often each occurs must not decide its id. Two that differ much are left
# to the trainer, whose scores need something to count.
_MARKS = string.punctuation.translate({ord("."): None, ord("?"): None})
_WORD_START = "▁"


def train(pieces: int = PIECES) -> bytes:
    """A SentencePiece model with T5's special ids (`vocabulary.train`).

    Every word of 20,000 documents is one piece, and of the downstream tasks: what the corpus never
    says need not be spelt. So is a mark that stands apart as a word does, and "she" and "he" behind
    a mark. Deterministic: the documents have a fixed seed and the trainer one thread.

    Args:
      pieces: size of the vocabulary, special tokens included and sentinels not.

    Returns:
      The model file's content.
    """
    made = islice(documents(random.Random("vocabulary")), _DOCUMENTS)
    texts = [unmarked(text) for text in made]
    asked = [e["inputs"] + " " + e["targets"] for t in DOWNSTREAM for e in t.examples("validation")]
    found = sorted({w for t in texts + asked for w in re.findall(r"\w+|(?<= )[^\w\s]", t)})
    return vocabulary.train(
        texts,
        pieces,
        threads=1,
        user_defined_symbols=[*(_WORD_START + word for word in found), "she", "he", *_MARKS],
        required_chars=_CHARACTERS + _WORD_START,
        # NFKC's rules would take 240 kB.
        normalization_rule_name="identity",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path, help="the model file to write")
    out = parser.parse_args().out
    out.write_bytes(train())


if __name__ == "__main__":
    main()
