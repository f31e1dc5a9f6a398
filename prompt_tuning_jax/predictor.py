"""A backbone and an artifact loaded for predictions: what evaluate, infer and notebooks use."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prompt_tuning_jax import artifacts, backbones, buckets, sharding, t5
from prompt_tuning_jax.decoding import Greedy, keys
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Tree
from prompt_tuning_jax.tasks import sentinel
from prompt_tuning_jax.vocabulary import Vocabulary


@functools.partial(jax.jit, static_argnames=("model", "decoder", "length"))
def decode(model, decoder, length, theta, tuned, batch, rng, labels):
    """A decoder (decoding.py), compiled once for each model, decoder and shape of batch."""
    return decoder(model, theta, tuned, batch, length, rng, labels)


_row_keys = jax.jit(t5.row_keys, static_argnames="model")


@dataclasses.dataclass(frozen=True)
class Predictor:
    """model and `tuned` as exported, with the keys and values of prompt rows that do not see the
    input ("rows"); θ on the mesh. facts: the artifact's, {} for the plain T5. names: of several
    artifacts, in the order of `prompt_ids`; () where there is one."""

    model: t5.T5
    theta: Tree
    tuned: Tree
    vocabulary: Vocabulary
    partitioner: sharding.Partitioner
    facts: dict[str, Any]
    names: tuple[str, ...] = ()

    def predict(
        self,
        texts: Sequence[str],
        *,
        prompts: Sequence[str] | None = None,
        decoder: Any = Greedy(),
        input_length: int | None = None,
        output_length: int | None = None,
        batch_size: int = 32,
        seed: int = 0,
    ) -> list[str]:
        """A prediction for each text, in order.

        Lengths are in tokens, the prompt not counted; None: those the artifact was trained with
        (64 and 32 for the plain T5). Longer inputs are cut, and counted in a warning. prompts: of
        several artifacts that were loaded, the name of each text's; a batch mixes them.
        """
        ids = self._prompt_ids(texts, prompts)
        lengths = self.facts.get("lengths", {"inputs": 64, "targets": 32})
        width = lengths["inputs"] if input_length is None else input_length
        length = lengths["targets"] if output_length is None else output_length
        if min(width, length, batch_size) < 1:
            raise UserError(
                f"input length {width}, output length {length}, batch size {batch_size}: "
                "each is at least 1"
            )
        batch_size += -batch_size % self.partitioner.pieces("batch")
        encoded = [self.vocabulary.encode(text) for text in texts]
        cut = sum(len(tokens) >= width for tokens in encoded)
        if cut:
            logging.warning(
                "%d of %d inputs were longer than %d tokens and cut", cut, len(texts), width
            )
        ended = [[*tokens[: width - 1], self.vocabulary.eos_id] for tokens in encoded]
        predictions = [""] * len(texts)
        rng = jax.random.key(seed)
        # few lengths, and the same in every call: each is compiled once
        lengths_of = np.array([len(ids) for ids in ended], np.int64)
        for examples, longest in buckets.by_length(lengths_of, batch_size, buckets.halvings(width)):
            batch = np.zeros((batch_size, longest), np.int32)
            for row, example in enumerate(examples):
                batch[row, : len(ended[example])] = ended[example]
            inputs = {"encoder_input_tokens": batch}
            if ids is not None:
                inputs["prompt_ids"] = np.zeros((batch_size, 1), np.int32)
                inputs["prompt_ids"][: len(examples), 0] = ids[examples]
            out = self.decode(decoder, length, inputs, keys(rng, examples, batch_size))
            for example, row in zip(examples, out, strict=False):
                predictions[example] = self.vocabulary.decode(row.tolist())
        if self.facts.get("sentinel"):
            return [sentinel.without(text) for text in predictions]
        return predictions

    def _prompt_ids(self, texts, prompts) -> np.ndarray | None:
        """The number of each text's artifact, None where there is one artifact or none."""
        if prompts is None and not self.names:
            return None
        prompts = prompts or [""] * len(texts)
        for prompt in prompts:
            if prompt not in self.names:
                raise UserError(f"no artifact {prompt!r} for a text, but {', '.join(self.names)}")
        return np.array([self.names.index(p) for _, p in zip(texts, prompts, strict=True)])

    def decode(
        self, decoder, length: int, batch: dict[str, np.ndarray], rng, labels=None
    ) -> np.ndarray:
        """One batch under seqio's names -> token ids [B,length]; rng: `decoding.keys`."""
        with self.partitioner.use():
            on_devices = self.partitioner.put_batch(batch)
            return np.asarray(
                decode(self.model, decoder, length, self.theta, self.tuned, on_devices, rng, labels)
            )


def load(
    artifact: str | os.PathLike[str] | Mapping[str, str] | None = None,
    backbone: str | None = None,
    *,
    vocabulary_file: str | None = None,
    extra_ids: int = 100,
    dtype: str = "float32",
    frozen_dtype: str = "float32",
    mesh: dict[str, int] | None = None,
    logical_axis_rules: sharding.Rules | None = None,
) -> Predictor:
    """Loads an artifact and its backbone; without an artifact, the plain backbone.

    artifact: its folder, or {name: folder} of several that share a batch (prompts of one length);
    backbone: where it lies, None for where the artifact found it; vocabulary_file: None for the one
    the artifact was trained with, else the backbone's; dtype: of the activations; frozen_dtype:
    what θ is held in. Raises UserError where either cannot be read or they do not belong together.
    """
    if isinstance(artifact, Mapping):
        if not artifact:
            raise UserError('ARTIFACT = {}: write {"name": "its folder", …}')
        several, every = tuple(artifact), [artifacts.read(f) for f in artifact.values()]
    else:
        several, every = (), [artifacts.read(artifact)] if artifact else []
    read = every[0] if every else None
    own = read.facts["backbone"] if read else {}
    path = backbone or own.get("path")
    if path is None and read is not None:
        raise UserError(
            f"{read.path}: its model started from random values; convert makes a backbone of it"
        )
    if path is None:
        raise UserError("give an artifact (--artifact), a backbone (--backbone), or both")
    if vocabulary_file is None and own.get("vocabulary_file"):
        vocabulary_file, extra_ids = own["vocabulary_file"], own["extra_ids"]
    with _belonging_to(read):
        source = backbones.find(path)
    sizes = t5.T5Config(**own["config"]) if read else backbones.config_of(source)
    config = dataclasses.replace(sizes, dtype=dtype, dropout_rate=0.0)
    partitioner = sharding.Partitioner.of(mesh, logical_axis_rules)
    words = backbones.vocabulary(source, vocabulary_file, extra_ids)
    backbones.check_vocabulary(words, config)
    with _belonging_to(read):
        places = partitioner.theta(config)
        found = backbones.read(source, config, places, frozen_dtype)
    if read is None:
        return Predictor(t5.T5(config), found.theta, t5.EMPTY, words, partitioner, {})
    method, facts = read.method, read.facts
    abstract = method.abstract(config, t5.abstract_params(config))
    for one in every:
        artifacts.check_backbone(one, found.fingerprint, config)
        _check_alike(read, one)
    trees = [artifacts.fit(one, abstract) for one in every]
    tuned = trees[0]
    if several:
        method, tuned = method.together(trees)
        lengths = [one.facts["lengths"] for one in every]
        facts = facts | {"lengths": {k: max(one[k] for one in lengths) for k in lengths[0]}}
    frozen, _ = method.split(found.theta)
    tuned = jax.device_put(tuned, partitioner.replicated)
    theta, model = method.join(frozen, tuned), t5.T5(config, method)
    with partitioner.use():
        rows = _row_keys(model, theta, tuned)
    tuned |= {"rows": rows} if rows else {}
    return Predictor(model, theta, tuned, words, partitioner, facts, several)


def _check_alike(first: artifacts.Artifact, other: artifacts.Artifact) -> None:
    """UserError unless one batch can have examples of both."""
    if other.method != first.method:
        raise UserError(
            f"{other.path}: its method is {other.method}, that of {first.path} is {first.method}: "
            "artifacts of one batch have the same"
        )
    if other.facts.get("sentinel") != first.facts.get("sentinel"):
        raise UserError(f"{other.path}: of it and {first.path} one task has a sentinel, one none")


@contextlib.contextmanager
def _belonging_to(artifact: artifacts.Artifact | None) -> Iterator[None]:
    """Within: an error of a backbone names the artifact that it is read for."""
    try:
        yield
    except UserError as error:
        if artifact is None:
            raise
        raise UserError(f"{artifact.path}, its backbone: {error}") from None
