"""Bad input in gin, data, numbers and backbones."""

import tiny_run
from spoilt import (
    AGAIN,
    FREE_TEXT,
    GOOD,
    Case,
    another_backbone,
    cut_backbone,
    write,
)

UNSCORED_TASKS = """
from prompt_tuning_jax.tasks.text_files import Text
unscored = Text("unscored", train="train.jsonl", validation="validation.jsonl", metrics=[])
"""
CASES = [
    # ---- gin ----
    Case("no gin file", ("--gin_file=absent.gin",), ("no gin file absent.gin",)),
    Case(
        "binary gin file",
        ("--gin_file=bad.gin",),
        ("bad.gin", "not a text file"),
        write("bad.gin", b"A = '\xff\xfe'\n"),
    ),
    Case(
        "gin syntax",
        ("--gin_file=bad.gin",),
        ("bad.gin:2", "gin syntax"),
        write("bad.gin", "\nTRAIN_STEPS = = 1\n"),
    ),
    Case(
        "unknown gin macro",
        ("--gin_file=bad.gin",),
        ("bad.gin:1", "TRAIN_STEP;", "did you mean TRAIN_STEPS?"),
        write("bad.gin", "TRAIN_STEP = 10\n"),
    ),
    Case(
        "unknown gin function",
        ("--gin.PROMPT_START=@prompt_init.Unifrom()",),
        ("prompt_init has no Unifrom; did you mean Uniform?",),
    ),
    Case(
        "unknown gin parameter",
        ("--gin.prompt.Prompt.lenght=3",),
        ("no parameter lenght; did you mean length?",),
    ),
    Case("override that nothing reads", ("--gin.TRAIN_STEP=10",), ("TRAIN_STEPS?",)),
    Case("missing values", (), ("--gin.MIXTURE_OR_TASK_NAME=…",), base=("--gin_file=tiny.gin",)),
    # ---- data ----
    Case(
        "no data file",
        ("--gin.text_files.Text.train=absent.jsonl",),
        ("data file absent.jsonl: No such file",),
    ),
    Case(
        "no JSON",
        (),
        ("train.jsonl:2: no JSON",),
        write("train.jsonl", GOOD + "{'text': 'single quotes'}\n"),
    ),
    Case(
        "no field",
        (),
        ("train.jsonl:3: no field 'text'", "'review: {text}'", "it has review, label"),
        write("train.jsonl", GOOD * 2 + '{"review": "a", "label": 0}\n'),
    ),
    Case(
        "label outside the words",
        (),
        ("validation.jsonl:2: label '2'", "0, 1"),
        write("validation.jsonl", GOOD + '{"text": "a", "label": 2}\n'),
    ),
    Case(
        "no text file",
        (),
        ("train.jsonl:2", "not UTF-8"),
        write("train.jsonl", GOOD.encode() + b'{"text": "\xff", "label": 0}\n'),
    ),
    Case(
        "empty training split",
        (),
        ("task reviews, split 'train'", "no examples in train.jsonl"),
        write("train.jsonl", "\n"),
    ),
    Case(
        "empty validation split",
        (),
        ("task reviews, split 'validation'", "no examples in validation.jsonl"),
        write("validation.jsonl", ""),
    ),
    Case("no such split", ("--gin.EVAL_SPLIT=test",), ("no split 'test'", "train, validation")),
    Case(
        "unlabelled split",
        (
            "--gin.EVAL_TASKS=['glue_sst2']",
            "--gin.EVAL_SPLIT=test",
            "--gin.DATA_DIR=.",
            "--gin.TASK_FEATURE_LENGTHS={'inputs': 40, 'targets': 12}",
        ),
        ("task glue_sst2", "no labels to score"),
        write("SST-2/test.tsv", "index\tsentence\n0\ta good film\n"),
    ),
    Case(
        "unknown task",
        ("--gin.MIXTURE_OR_TASK_NAME=super_glue_rtee",),
        ("no task 'super_glue_rtee'; did you mean super_glue_rte?",),
        base=(*tiny_run.training()[:2], "--gin.PROMPT_LENGTH=4"),
    ),
    Case(
        "unknown evaluation task",
        ("--gin.EVAL_TASKS=['glue_sst']",),
        ("no task 'glue_sst'; did you mean glue_sst2?",),
    ),
    Case("evaluation tasks that are no list", ("--gin.EVAL_TASKS='glue_sst2'",), ("EVAL_TASKS",)),
    Case("no task", ("--gin.EVAL_TASKS=[7]",), ("7 is no task",)),
    Case(
        "an evaluation task twice",
        ("--gin.EVAL_TASKS=[@text_files.Text(), @text_files.Text()]",),
        ("task reviews is there 2 times",),
    ),
    Case("an empty mixture", ("--gin.MIXTURE_OR_TASK_NAME={}",), ("MIXTURE_OR_TASK_NAME",)),
    Case(
        "a rate that is none",
        ("--gin.MIXTURE_OR_TASK_NAME={@text_files.Text(): 0}",),
        ("task reviews: rate 0",),
    ),
    Case(
        "no task module",
        ("--gin.MIXTURE_OR_TASK_MODULE=absent_tasks", "--gin.EVAL_TASKS=['mine']"),
        ("absent_tasks",),
    ),
    Case(
        "a task that nothing scores",
        ("--gin.MIXTURE_OR_TASK_MODULE=unscored_tasks", "--gin.EVAL_TASKS=['unscored']"),
        ("task unscored", "no metric"),
        write("unscored_tasks.py", UNSCORED_TASKS),
    ),
    Case("more shots than examples", ("--gin.K_SHOT=5",), ("k_shot 5", "1 to 4")),
    Case("no shots", ("--gin.K_SHOT=0",), ("k_shot 0",)),
    Case("a length is missing", ("--gin.TASK_FEATURE_LENGTHS={'inputs': 40}",), ("targets",)),
    Case("lengths that are none", ("--gin.TASK_FEATURE_LENGTHS=40",), ("TASK_FEATURE_LENGTHS",)),
    Case(
        "a length in words",
        ("--gin.TASK_FEATURE_LENGTHS={'inputs': 40, 'targets': 'four'}",),
        ("TASK_FEATURE_LENGTHS",),
    ),
    Case(
        "label words that do not fit",
        ("""--gin.text_files.Text.label_words={"0": "a good film", "1": "bad"}""",),
        ("label words need", "TASK_FEATURE_LENGTHS has 4"),
    ),
    # ---- numbers ----
    *(
        Case(f"{name} of 0", (f"--gin.{name}=0",), (name,))
        for name in (
            "TRAIN_STEPS",
            "BATCH_SIZE",
            "NUM_MICROBATCHES",
            "EVAL_PERIOD",
            "EVAL_BATCH_SIZE",
            "CHECKPOINT_PERIOD",
            "KEEP",
            "EARLY_STOPPING",
            "LOG_PERIOD",
        )
    ),
    Case("no examples to evaluate", ("--gin.EVAL_EXAMPLES=0",), ("0 examples of reviews",)),
    Case("microbatches that do not divide", ("--gin.NUM_MICROBATCHES=3",), ("BATCH_SIZE = 8",)),
    Case("a mesh of too many devices", ("--gin.MESH={'model': 64}",), ("MESH",)),
    Case("a mesh of unknown axes", ("--gin.MESH={'dta': 2}",), ("MESH = {'dta': 2}",)),
    Case("a mesh that is a number", ("--gin.MESH=2",), ("MESH = 2",)),
    Case("a negative seed", ("--gin.RANDOM_SEED=-1",), ("seed -1",)),
    *(
        Case(f"an artifact at {what}", (f"--gin.ARTIFACT_STEPS={steps}",), ("ARTIFACT_STEPS", said))
        for what, steps, said in (
            ("step 0", [4, 0], "0 is no step from 1 to TRAIN_STEPS = 12"),
            ("a step after the last", [13], "13 is no step from 1 to TRAIN_STEPS = 12"),
            ("half a step", [1.5], "1.5 is no step"),
            ("a step that is no list", 4, "write a list of steps, [4]"),
        )
    ),
    Case(
        "an artifact of a step that is past",
        ("--gin.ARTIFACT_STEPS=[3]",),
        ("run is past step 3", "did not keep its artifact", "another MODEL_DIR"),
        base=AGAIN,
    ),
    Case("steps in words", ("--gin.TRAIN_STEPS=ten",), ("TRAIN_STEPS", "int")),
    # ---- prompt ----
    Case("prompt of length 0", ("--gin.PROMPT_LENGTH=0",), ("PROMPT_LENGTH = 0",)),
    Case("prompt of length -1", ("--gin.PROMPT_LENGTH=-1",), ("PROMPT_LENGTH = -1",)),
    Case("prompt of length x", ("--gin.PROMPT_LENGTH=x",), ("PROMPT_LENGTH", "int", "'x'")),
    Case(
        "prompt and inputs too long",
        ("--gin.MAX_ENCODER_LENGTH=43",),
        ("44 rows", "MAX_ENCODER_LENGTH is 43"),
    ),
    Case("ranking free text", ("--gin.DECODER=@decoding.Rank()", *FREE_TEXT), ("label words",)),
    # ---- backbone ----
    Case(
        "no backbone",
        ("--gin.INITIAL_CHECKPOINT_PATH=absent",),
        ("absent: no such backbone folder",),
    ),
    Case(
        "no built-in backbone",
        ("--gin.INITIAL_CHECKPOINT_PATH=builtin://dmeo",),
        ("no such built-in backbone",),
    ),
    Case("a folder that is no backbone", ("--gin.INITIAL_CHECKPOINT_PATH=run",), ("run: no",)),
    Case(
        "a backbone cut short",
        ("--gin.INITIAL_CHECKPOINT_PATH=cut",),
        ("cut/params.safetensors: cannot be read",),
        cut_backbone,
    ),
    Case(
        "a backbone of other sizes",
        ("--gin.INITIAL_CHECKPOINT_PATH=wide",),
        ("wide: another architecture", "mlp_dim = 96 there, 64 asked"),
        another_backbone("wide", mlp_dim=96),
    ),
]
