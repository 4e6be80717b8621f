"""Where queries come from. A new task is one new file with a `read` function and one line in TASKS; a package of
your own announces a `Task` as an entry point of `xrouter_sim.tasks`."""

from responses_db.plugins import plugins
from responses_db.tasks import hub, jsonl, reasoning_gym
from responses_db.tasks.base import Task, interleave

__all__ = ["TASKS", "Task", "interleave"]

TASKS = {
    task.name: task
    for task in [
        Task("reasoning_gym", "Verifiable puzzles from reasoning-gym's generators.", reasoning_gym.read),
        Task("jsonl", "Your own queries, one JSON object a line.", jsonl.read),
        Task("parquet", "Your own queries, one row each.", jsonl.read),
        Task("hf", "Published benchmarks, from the Hugging Face hub or a copy on disk.", hub.read),
    ]
}
TASKS |= plugins("tasks", TASKS)
