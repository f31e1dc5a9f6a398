"""Maps the folders tasks/ and gin_configs/ into the package; everything else: pyproject.toml."""

from setuptools import find_packages, setup

tasks = ["prompt_tuning_jax.tasks"] + [
    f"prompt_tuning_jax.tasks.{name}" for name in find_packages("tasks")
]
setup(
    packages=[
        *find_packages(include=["prompt_tuning_jax", "prompt_tuning_jax.*"]),
        *tasks,
        "prompt_tuning_jax.gin_configs",
    ],
    package_dir={
        "prompt_tuning_jax": "prompt_tuning_jax",
        "prompt_tuning_jax.tasks": "tasks",
        "prompt_tuning_jax.gin_configs": "gin_configs",
    },
    package_data={
        "prompt_tuning_jax": ["builtin/**/*"],
        "prompt_tuning_jax.gin_configs": ["**/*.gin"],
    },
)
