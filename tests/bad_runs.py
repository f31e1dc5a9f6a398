"""Bad input in artifacts, in MODEL_DIR and of the commands after training."""

import numpy as np
from spoilt import (
    AGAIN,
    EVALUATE,
    FREE_TEXT,
    GOOD,
    Case,
    another_backbone,
    longer,
    not_a_number,
    replaced,
    spoil,
    without,
    write,
)

RTE = ("--leaderboard=upload", "--task=super_glue_rte")
CASES = [
    # ---- artifact ----
    Case(
        "no artifact",
        ("--gin.INITIAL_ARTIFACT=absent",),
        ("absent: no artifact there",),
    ),
    Case(
        "an artifact of another backbone",
        ("--backbone=other",),
        ("run/artifact", "it belongs to backbone", "fingerprint"),
        another_backbone("other"),
        "evaluate",
        EVALUATE,
    ),
    Case(
        "an artifact of another width",
        ("--backbone=wide",),
        ("run/artifact", "emb_dim = 48 there, 32 asked"),
        another_backbone("wide", emb_dim=48),
        "infer",
        ("--artifact=run/artifact", "--input=tiny.gin", "--output=out.jsonl"),
    ),
    Case(
        "starting from an artifact of another backbone",
        (
            "--gin.INITIAL_ARTIFACT=run/artifact",
            "--gin.INITIAL_CHECKPOINT_PATH=other",
        ),
        ("run/artifact", "it belongs to backbone", "fingerprint"),
        another_backbone("other"),
    ),
    Case(
        "starting from an artifact of another width",
        (
            "--gin.INITIAL_ARTIFACT=run/artifact",
            "--gin.INITIAL_CHECKPOINT_PATH=wide",
            "--gin.EMBED_DIM=48",
        ),
        ("run/artifact", "emb_dim = 32, not 48"),
        another_backbone("wide", emb_dim=48),
    ),
    Case(
        "starting from an artifact of another length",
        (
            "--gin.INITIAL_ARTIFACT=run/artifact",
            "--gin.PROMPT_LENGTH=7",
        ),
        ("run/artifact", "misshapen tensors: shared/prompt ((1, 4, 32), wanted (1, 7, 32))"),
    ),
    *(
        Case(
            f"an artifact with {what}",
            (),
            ("run/artifact", *said),
            spoil(change, sign),
            "evaluate",
            EVALUATE,
        )
        for what, change, sign, said in (
            ("a missing tensor", dict.clear, True, ("missing tensors: shared/prompt",)),
            (
                "an extra tensor",
                lambda tensors: tensors.update({"shared/more": np.zeros(3, np.float32)}),
                True,
                ("extra tensors: shared/more",),
            ),
            ("NaN", not_a_number, True, ("shared/prompt has NaN",)),
            ("a misshapen tensor", longer, True, ("misshapen tensors: shared/prompt",)),
            ("other values", lambda t: t["shared/prompt"].fill(0), False, ("checksum",)),
        )
    ),
    Case(
        "an artifact cut short",
        (),
        ("run/artifact/tuned.safetensors: cannot be read",),
        write("run/artifact/tuned.safetensors", b"\x10"),
        "evaluate",
        EVALUATE,
    ),
    *(
        Case(f"artifact.json: {what}", (), ("artifact.json", said), change, "evaluate", EVALUATE)
        for what, said, change in (
            ("no JSON", "not an artifact", write("run/artifact/artifact.json", "{")),
            ("a list", "not an artifact", write("run/artifact/artifact.json", "[]")),
            ("another format", "format 99", replaced(format=99)),
            ("no method", "method", replaced(method=None)),
            ("no fingerprint", "fingerprint", replaced(backbone={"path": "x", "config": {}})),
            (
                "a method of nobody",
                "import absent_methods in a gin file first",
                replaced(method={"class": "absent_methods.Mine", "settings": {}}),
            ),
            (
                "a method that is none",
                "is not a Method",
                replaced(method={"class": "prompt_tuning_jax.losses.Loss", "settings": {}}),
            ),
        )
    ),
    # ---- MODEL_DIR ----
    *(
        Case(
            f"another {what}",
            (flag,) if flag else (),
            ("run holds a run of another configuration", *said),
            prepare,
            base=AGAIN,
        )
        for what, flag, said, prepare in (
            ("method", "--gin.PROMPT_LENGTH=5", ("method.settings.length: 4 -> 5",), None),
            ("rate", "--gin.LEARNING_RATE=0.1", ("base_learning_rate: 0.3 -> 0.1",), None),
            ("batch", "--gin.BATCH_SIZE=4", ("batch_size: 8 -> 4",), None),
            ("seed", "--gin.RANDOM_SEED=1", ("random_seed: 0 -> 1",), None),
            ("dropout", "--gin.DROPOUT_RATE=0.0", ("dropout_rate: 0.1 -> 0.0",), None),
            ("precision", "--gin.ACTIVATION_DTYPE=bfloat16", ("dtype",), None),
            ("number of shots", "--gin.K_SHOT=2", ("k_shot: None -> 2",), None),
            ("evaluation", "--gin.EVAL_EXAMPLES=3", ("eval_examples: None -> 3",), None),
            ("decoder", "--gin.DECODER=@decoding.Rank()", ("decoder",), None),
            ("selection", "--gin.text_files.Text.metrics=['exact_match']", ("exact_match",), None),
            (
                "length",
                "--gin.TASK_FEATURE_LENGTHS={'inputs': 41, 'targets': 4}",
                ("lengths.inputs: 40 -> 41",),
                None,
            ),
            (
                "template",
                "--gin.text_files.Text.inputs='{text}'",
                ("examples.reviews/train",),
                None,
            ),
            (
                "set of label words",
                """--gin.text_files.Text.label_words={"0": "bad", "1": "good"}""",
                ("label_words.reviews: ['good', 'bad'] -> ['bad', 'good']",),
                None,
            ),
            ("training set", "", ("examples.reviews/train",), write("train.jsonl", GOOD * 8)),
            (
                "backbone",
                "--gin.INITIAL_CHECKPOINT_PATH=other",
                ("backbone: 'backbone' -> 'other'",),
                another_backbone("other"),
            ),
            (
                "backbone in the same place",
                "",
                ("fingerprint",),
                another_backbone("backbone"),
            ),
        )
        for prepare in [prepare or (lambda job: None)]
    ),
    Case(
        "settings.json is damaged",
        (),
        ("settings.json",),
        write("run/settings.json", "{"),
        base=AGAIN,
    ),
    Case("settings.json is a list", (), ("run",), write("run/settings.json", "[1]"), base=AGAIN),
    Case(
        "checkpoints of something else",
        (),
        ("run holds checkpoints of something else",),
        without("run/settings.json"),
        base=AGAIN,
    ),
    Case(
        "a damaged checkpoint",
        (),
        ("run/checkpoints/4: no sound checkpoint",),
        without("run/checkpoints/4/default/_METADATA"),
        base=AGAIN,
    ),
    Case("MODEL_DIR is a file", ("--gin.MODEL_DIR=train.jsonl",), ("MODEL_DIR is a file",)),
    Case("MODEL_DIR is a bucket", ("--gin.MODEL_DIR=gs://bucket/run",), ("a folder of a file",)),
    Case("MODEL_DIR is in a file", ("--gin.MODEL_DIR=train.jsonl/run",), ("train.jsonl",)),
    # ---- the other commands ----
    Case(
        "describe without a method",
        (),
        ("method",),
        command="describe",
        base=("--gin_file=tiny.gin",),
    ),
    Case(
        "evaluate without lengths",
        (),
        ("TASK_FEATURE_LENGTHS",),
        command="evaluate",
        base=(*EVALUATE[:2], "--backbone=backbone"),
    ),
    Case("evaluate without anything", (), ("--artifact",), command="evaluate", base=EVALUATE[:2]),
    Case(
        "predictions into a file",
        ("--output=train.jsonl",),
        ("train.jsonl is a file",),
        command="evaluate",
        base=EVALUATE,
    ),
    *(
        Case(f"leaderboard: {what}", flags, said, command="evaluate", base=EVALUATE)
        for what, flags, said in (
            ("into a file", ("--leaderboard=train.jsonl",), ("train.jsonl is a file",)),
            (
                "another task",
                ("--leaderboard=upload",),
                ("task reviews", "no file for it", "super_glue_rte", "leave --leaderboard out"),
            ),
            (
                "a part of a split",
                (*RTE, "--split=test", "--gin.EVAL_EXAMPLES=3"),
                ("every example", "EVAL_EXAMPLES"),
            ),
            ("another split", RTE, ("no validation split", "give --split=test")),
            (
                "a task and its twin",
                (
                    RTE[0],
                    "--gin.MIXTURE_OR_TASK_NAME={'super_glue_cb': 1, 'taskless_super_glue_cb': 1}",
                ),
                ("super_glue_cb and taskless_super_glue_cb have one leaderboard file, CB.jsonl",),
            ),
        )
    ),
    Case(
        "evaluate by ranking free text",
        ("--gin.DECODER=@decoding.Rank()", *FREE_TEXT, "--output=out"),
        ("label words",),
        command="evaluate",
        base=EVALUATE,
    ),
    Case(
        "batches of none",
        ("--gin.BATCH_SIZE=0",),
        ("BATCH_SIZE",),
        command="evaluate",
        base=EVALUATE,
    ),
    *(
        Case(
            f"infer: {what}",
            ("--input=texts.jsonl", "--output=out.jsonl", *flags),
            said,
            write("texts.jsonl", content),
            "infer",
            ("--artifact=run/artifact",),
        )
        for what, content, flags, said in (
            ("no JSON", 'one\n{"inputs": "two"}\n{"inputs"\n', (), ("texts.jsonl:3: not JSON",)),
            ("no inputs", '{"text": "one"}\n', (), ("texts.jsonl:1", '"inputs"', "['text']")),
            ("no text", b"one\n\xff\n", (), ("texts.jsonl:", "not UTF-8")),
            ("no length", "one\n", ("--gin.INPUT_LENGTH=0",), ("input length 0",)),
            ("no batch", "one\n", ("--gin.BATCH_SIZE=0",), ("BATCH_SIZE",)),
            ("nowhere to write", "one\n", ("--output=absent/out.jsonl",), ("absent/out.jsonl",)),
            ("nothing to rank", "one\n", ("--gin.DECODER=@decoding.Rank()",), ("label words",)),
        )
    ),
    Case(
        "infer: no input",
        ("--input=absent.txt",),
        ("absent.txt: no such input file",),
        command="infer",
        base=("--artifact=run/artifact",),
    ),
    Case(
        "convert a prompt",
        ("--output=converted",),
        ("shared/prompt is no part of θ",),
        command="convert",
        base=("--artifact=run/artifact",),
    ),
]
