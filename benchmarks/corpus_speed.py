"""How fast a corpus becomes batches on the host, how full they are, and what memory it takes.

    python benchmarks/corpus_speed.py --files="novels/*.txt" --vocabulary=sentencepiece.model

One process, no model: rows a second of batches of 128, T5's lengths, for both objectives and both
ways to cut a text file into documents; the share of the encoder's input that is padding; and the
process's peak memory so far. The first batch, which reads the first block of rows, is timed too.
"""

import argparse
import resource
import time

import numpy as np

from prompt_tuning_jax import data
from prompt_tuning_jax.batches import TrainingBatches
from prompt_tuning_jax.tasks import corpora, objectives
from prompt_tuning_jax.vocabulary import Vocabulary

BATCH, BATCHES = 128, 200
OBJECTIVES = {
    "span corruption": (objectives.SpanCorruption(), {"inputs": 512, "targets": 114}),
    "prefix LM": (objectives.PrefixLM(), {"inputs": 512, "targets": 512}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", required=True, help="a pattern of the corpus's files")
    parser.add_argument("--vocabulary", required=True, help="a SentencePiece model")
    flags = parser.parse_args()
    vocabulary = Vocabulary(flags.vocabulary, extra_ids=100)
    print("| objective | document | rows/s | CPU s a 1000 rows | padding % | peak MiB |")
    print("|---|---|---|---|---|---|")
    for name, (objective, lengths) in OBJECTIVES.items():
        for document in ("file", "paragraph"):
            texts = corpora.Texts(train=flags.files, document=document)
            task = corpora.Corpus("measured", texts, objective)
            start, cpu = time.monotonic(), time.process_time()
            batches = TrainingBatches(
                [(data.training_set(task, vocabulary, lengths), 1.0)], BATCH, seed=0
            )
            empty = [
                float(np.mean(batches.batch(step)["encoder_input_tokens"] == 0))
                for step in range(BATCHES)
            ]
            wall, cpu = time.monotonic() - start, time.process_time() - cpu
            rows = BATCH * BATCHES
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"| {name} | {document} | {rows / wall:.0f} | {1000 * cpu / rows:.2f} "
                f"| {100 * np.mean(empty):.2f} | {peak:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
