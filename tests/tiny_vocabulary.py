"""A SentencePiece model of our own for tests: a few hundred pieces, trained in a moment."""

import io
import pathlib

import sentencepiece

SENTENCES = [
    "rte hypothesis: the cat sat on the mat. premise: a cat was on a mat.",
    "cb hypothesis: it rains premise: she said that it rains.",
    "sst2 sentence: a good film with a fine song",
    "sst2 sentence: a bad play , dull and long .",
    "entailment not_entailment contradiction neutral positive negative True False",
]


def train(folder: pathlib.Path, **settings) -> str:
    """Trains and writes the model -> its path. T5's special ids, unless `settings` differ."""
    model = io.BytesIO()
    settings = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "vocab_size": 90} | settings
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 5),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        **settings,
    )
    path = folder / "tiny.model"
    path.write_bytes(model.getvalue())
    return str(path)
