"""Predictions for lines of text: artifact + backbone + text -> JSON lines.

python -m prompt_tuning_jax.infer --artifact=MODEL_DIR/artifact --input=texts.txt
"""

if __name__ == "__main__":
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("infer"))

import contextlib
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from prompt_tuning_jax import sharding
from prompt_tuning_jax.decoding import Greedy
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.predictor import load

BATCHES = 16  # batches read ahead, so that a long file is never whole in memory


def infer(
    *,
    artifact: str | dict[str, str] | None = None,
    initial_checkpoint_path: str | None = None,
    input: str | None = None,
    output: str | None = None,
    decoder: Any = Greedy(),
    input_length: int | None = None,
    output_length: int | None = None,
    batch_size: int = 32,
    random_seed: int = 0,
    vocabulary_file: str | None = None,
    extra_ids: int = 100,
    dtype: str = "float32",
    frozen_dtype: str = "float32",
    mesh: dict[str, int] | None = None,
    logical_axis_rules: sharding.Rules | None = None,
) -> int:
    """Reads texts, one a line, or JSON lines {"inputs": …}, from `input` (None: standard input) and
    writes {"inputs", "prediction"} to `output` (None: standard output). Returns their number.

    artifact: its folder; or {name: folder} of several prompts, whose name each line then gives
    under "prompt". UserError for a line that begins as JSON and is none, has no text under "inputs"
    or no such name: where there is a file, before anything is predicted.
    """
    names = list(artifact) if artifact and isinstance(artifact, dict) else None
    if batch_size < 1:
        raise UserError(f"BATCH_SIZE = {batch_size}: at least 1")
    if input is not None:
        if not pathlib.Path(input).is_file():
            raise UserError(f"{input}: no such input file")
        with open(input, encoding="utf-8") as lines:
            for _ in _texts(lines, input, names):
                pass
    if output is not None and not pathlib.Path(output).parent.is_dir():
        raise UserError(f"{output}: no such folder")
    predictor = load(
        artifact,
        initial_checkpoint_path,
        vocabulary_file=vocabulary_file,
        extra_ids=extra_ids,
        dtype=dtype,
        frozen_dtype=frozen_dtype,
        mesh=mesh,
        logical_axis_rules=logical_axis_rules,
    )
    count = 0
    with contextlib.ExitStack() as files:
        source: TextIO = files.enter_context(open(input, encoding="utf-8")) if input else sys.stdin
        texts = _texts(source, input or "standard input", names)
        sink: TextIO | None = None
        while chunk := list(itertools.islice(texts, BATCHES * batch_size)):
            predictions = predictor.predict(
                [record["inputs"] for record in chunk],
                prompts=[record["prompt"] for record in chunk] if names else None,
                decoder=decoder,
                input_length=input_length,
                output_length=output_length,
                batch_size=batch_size,
                seed=random_seed + count,
            )
            # opened late: a bad first line leaves an existing file as it is
            sink = sink or (
                files.enter_context(open(output, "w", encoding="utf-8")) if output else sys.stdout
            )
            for record, prediction in zip(chunk, predictions, strict=True):
                line = json.dumps(record | {"prediction": prediction}, ensure_ascii=False)
                sink.write(line + "\n")
            sink.flush()
            count += len(chunk)
    if output and not count:
        pathlib.Path(output).write_text("")
    return count


def _texts(file: TextIO, name: str, prompts: list[str] | None) -> Iterator[dict[str, str]]:
    """{"inputs"} of each line that is not empty, with "prompt" where there are several."""
    for number in itertools.count(1):
        try:
            line = file.readline()
        except UnicodeDecodeError as error:
            raise UserError(f"{name}:{number}: not UTF-8 text ({error.reason})") from None
        if not line:
            return
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        record = {"inputs": line}
        if line.lstrip().startswith("{"):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f"{name}:{number}: not JSON ({error})") from None
            if not isinstance(record.get("inputs"), str):
                raise UserError(f'{name}:{number}: no text under "inputs", but {sorted(record)}')
        if prompts is not None and record.get("prompt") not in prompts:
            raise UserError(
                f'{name}:{number}: "prompt" is {record.get("prompt")!r}, none of {prompts}'
            )
        yield {key: record[key] for key in ("inputs", "prompt")[: 1 if prompts is None else 2]}
