"""Our tasks for seqio. This imports seqio, and so TensorFlow, which takes seconds."""

import functools
import json

import numpy as np
import seqio
import tensorflow as tf

from prompt_tuning_jax.tasks import sentinel
from prompt_tuning_jax.tasks.task import Task
from prompt_tuning_jax.vocabulary import Vocabulary


def register(
    task: Task, vocabulary_file: str, extra_ids: int = 100, data_dir: str | None = None
) -> seqio.Task:
    """Registers a task with seqio under its own name, for `seqio.get_mixture_or_task`.

    The features are "inputs" and "targets", tokenised, with EOS. Beside them "example" is the whole
    example as JSON, which the task's postprocess gets. An objective is applied as the dataset is
    read, by seqio's seeds.

    Args:
      task: what to register.
      vocabulary_file: SentencePiece model, opened when examples are read.
      extra_ids: number of sentinels.
      data_dir: folder of the official files, None for the task's own source.

    Raises:
      ValueError: seqio has a task of that name.
    """
    vocabulary = seqio.SentencePieceVocabulary(vocabulary_file, extra_ids)
    feature = seqio.Feature(vocabulary, add_eos=True)
    return seqio.TaskRegistry.add(
        task.name,
        source=seqio.FunctionDataSource(
            functools.partial(_dataset, task=task, data_dir=data_dir), splits=task.source.splits
        ),
        preprocessors=[
            seqio.preprocessors.tokenize,
            *([functools.partial(_drawn, task=task)] if task.objective else []),
            *([_with_sentinel] if task.sentinel else []),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={"inputs": feature, "targets": feature},
        postprocess_fn=functools.partial(_postprocess, task),
        metric_fns=list(task.metrics),
    )


def _dataset(split, shuffle_files, seed=None, *, task, data_dir):
    """What seqio calls for a split; it asks for these arguments, and shuffles by itself."""
    examples = task.examples(split, data_dir)
    columns = {
        "inputs": [example["inputs"] for example in examples],
        "targets": [example["targets"] for example in examples],
        "example": [json.dumps(example) for example in examples],
    }
    return tf.data.Dataset.from_tensor_slices(columns)


def _drawn(dataset, sequence_length, output_features, *, task):
    """Preprocessor that applies the task's objective to the tokens of "targets"."""
    of_seqio = output_features["targets"].vocabulary
    vocabulary = Vocabulary(of_seqio.sentencepiece_model_file, of_seqio.extra_ids)

    def draw(ids, seed):
        rng = np.random.default_rng(seed.view(np.uint32))
        pair = task.objective(ids, rng, vocabulary, sequence_length)
        return [np.asarray(part, np.int32) for part in pair]

    @seqio.map_over_dataset(num_seeds=1)
    def apply(example, seed):
        pair = tf.numpy_function(draw, [example["targets"], seed], (tf.int32, tf.int32))
        inputs, targets = (tf.ensure_shape(part, [None]) for part in pair)
        return {**example, "inputs": inputs, "targets": targets}

    return apply(dataset)


@seqio.map_over_dataset
def _with_sentinel(example, output_features):
    """Preprocessor that puts the first sentinel before the tokens of "targets"."""
    last = output_features["targets"].vocabulary.vocab_size - 1
    return {**example, "targets": tf.concat([[last], example["targets"]], axis=0)}


def _postprocess(task, text, example, is_target=False):
    ours = json.loads(example["example"])
    if is_target and task.target:
        return task.target(ours)
    return task.postprocess(sentinel.without(text) if task.sentinel else text, ours)
