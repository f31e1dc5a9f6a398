"""T5's vocabulary: SentencePiece pieces with sentinels on top. No TensorFlow."""

import hashlib
import io
import pathlib
from collections.abc import Iterable
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from prompt_tuning_jax import charsmap
from prompt_tuning_jax.errors import UserError

MOST_SENTINELS = 10_000  # T5 has 100; a number out of a damaged file would take hours

# protobuf makes the class as the module is imported.
_Model = sentencepiece_model_pb2.ModelProto


class Vocabulary:
    """Text <-> token ids, the same ids as `seqio.SentencePieceVocabulary(model_file, extra_ids)`.

    Two vocabularies are equal when their model files' content and their sentinels are.

    Attributes:
      model_file: the SentencePiece model's file, local or at gs://.
      content: what the file holds.
      extra_ids: number of sentinels after the pieces; `<extra_id_0>` is the last id.
      pieces: number of pieces without the sentinels.
      vocab_size: number of ids, `pieces + extra_ids`.
      digest: SHA-256 of the model file, in hex.
    """

    pad_id = 0
    eos_id = 1
    unk_id = 2

    def __init__(self, model_file: str, extra_ids: int = 100):
        """Reads the model.

        Raises:
          UserError: the file is missing, or no SentencePiece model with T5's special ids.
        """
        self.model_file = str(model_file)
        self.extra_ids = extra_ids
        if not 0 <= extra_ids <= MOST_SENTINELS:
            raise UserError(
                f"vocabulary {model_file}: EXTRA_IDS = {extra_ids}, 0 to {MOST_SENTINELS} sentinels"
            )
        self.content = _read(self.model_file)
        self.digest = hashlib.sha256(self.content).hexdigest()
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(_with_sentinels(self.content, extra_ids))
        # The proto parser's errors share no base class.
        except Exception as error:
            raise UserError(f"vocabulary {model_file}: no SentencePiece model") from error
        self.vocab_size = self._processor.GetPieceSize()
        self.pieces = self.vocab_size - extra_ids
        found = (self._processor.pad_id(), self._processor.eos_id(), self._processor.unk_id())
        if found != (self.pad_id, self.eos_id, self.unk_id):
            raise UserError(
                f"vocabulary {model_file}: pad, eos, unk are {found}, T5 needs (0, 1, 2); train it "
                "with --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, int]:
        return self.digest, self.extra_ids

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without EOS."""
        return self._processor.EncodeAsIds(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first EOS; ids beyond the vocabulary read as unknown."""
        known = []
        for token in ids:
            if token == self.eos_id:
                break
            known.append(int(token) if token < self.vocab_size else self.unk_id)
        return self._processor.DecodeIds(known)

    def sentinel(self, index: int) -> int:
        """The id of `<extra_id_{index}>`: T5 counts sentinels down from the last id."""
        if not 0 <= index < self.extra_ids:
            raise UserError(f"no sentinel {index}: the vocabulary has {self.extra_ids} extra ids")
        return self.vocab_size - 1 - index

    def piece(self, token: int) -> str:
        """The piece as SentencePiece writes it, "▁" for a space before it."""
        return self._processor.IdToPiece(int(token))


def train(texts: Iterable[str], pieces: int, threads: int = 16, **settings: Any) -> bytes:
    """A SentencePiece unigram model with T5's special ids: pad 0, eos 1, unk 2, no bos.

    Args:
      texts: what to learn the pieces of.
      pieces: size of the vocabulary, special tokens included and sentinels not.
      threads: sums are in the order of the threads, so that another number gives another model;
        the same number gives the same one on every machine.
      settings: more of SentencePiece's own.

    Returns:
      The model file's content.

    Raises:
      UserError: the texts give fewer pieces, or SentencePiece refuses a setting.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=pieces,
            pad_id=Vocabulary.pad_id,
            eos_id=Vocabulary.eos_id,
            unk_id=Vocabulary.unk_id,
            bos_id=-1,
            num_threads=threads,
            minloglevel=2,
            **settings,
        )
    except (OSError, RuntimeError) as error:
        # after the place in SentencePiece's own source and the condition that does not hold
        reason = str(error).rpartition("] ")[2].strip() or error
        raise UserError(f"a vocabulary of {pieces} pieces cannot be made: {reason}") from error
    return model.getvalue()


def _read(file: str) -> bytes:
    if file.startswith("gs://"):
        from prompt_tuning_jax.interop import storage  # loads JAX

        folder, _, name = file.rpartition("/")
        content, reason = storage.read(storage.kvstore(folder), name), "no such file"
        if content is not None:
            return content
    else:
        try:
            return pathlib.Path(file).read_bytes()
        except OSError as error:
            reason = str(error.strerror)
    raise UserError(f"vocabulary {file}: {reason}; name a SentencePiece model file")


def _with_sentinels(content: bytes, extra_ids: int) -> bytes:
    model = _Model.FromString(content)
    charsmap.check(model.normalizer_spec.precompiled_charsmap)
    charsmap.check(model.denormalizer_spec.precompiled_charsmap)
    for index in reversed(range(extra_ids)):
        # As seqio spells them: a sentinel is read from text only at a word's start.
        piece = f"▁<extra_id_{index}>"
        model.pieces.add(piece=piece, score=0.0, type=_Model.SentencePiece.USER_DEFINED)
    return model.SerializeToString()
