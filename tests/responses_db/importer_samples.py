"""A small file of every published form, in the layout of the original, and the rows that it must become.

Two or three prompts and two models each. Texts have quotes, line breaks, commas and letters beyond ASCII, as the
originals do.
"""

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

Row = tuple[str, str, int, float | None, str | None, float | None, int | None, int | None, str | None]
"""query_id, model, sample, score, response, cost, input tokens, output tokens, reference."""

ODD = 'Wieviel ist "2 + 2",\nin Zürich? 数'


@dataclass(frozen=True)
class Sample:
    """`write` puts the form's file into a folder. `split` and `domain` are by query, null where a hash decides."""

    file: str
    write: Callable[[Path], None]
    rows: list[Row]
    domains: dict[str, str]
    splits: dict[str, str] | None = None


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), "utf-8", newline="")


def write_jsonl(path: Path, records: list[Any]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


TIDY_ROWS = [
    {
        "dataset": "own",
        "split": "train",
        "domain": "sums",
        "query_id": "007",
        "query": ODD,
        "model": model,
        "response": response,
        "score": score,
        "prompt_tokens": 12,
        "completion_tokens": tokens,
        "cost_usd": cost,
        "reference": "4",
    }
    for model, response, score, tokens, cost in [("small", "5", 0.0, 1, 1e-6), ("large", None, 1.0, None, None)]
]

WIDE_ROWS = [
    {
        "": number,
        "sample_id": f"mbpp.dev.{number}",
        "prompt": repr([f"Print {number}: {ODD}"]),
        "eval_name": "mbpp",
        "gpt-4|total_cost": cost,  # columns in no order, as in the original
        "zoo/llama": llama,
        "gpt-4": 1.0,
        "gpt-4|model_response": repr(["print('ü')"]),
        "zoo/llama|model_response": repr(['say "hi"\n']),
        "zoo/llama|total_cost": 1e-05,
        "oracle_model_to_route_to": "gpt-4",
    }
    for number, llama, cost in [(1, 0.0, 0.001), (2, 0.5, "")]
]

MMLU_ROWS = [
    {"prompt": f"{ODD}\nA. 3\nB. 4\nAnswer:", "mixtral-8x7b": True, "gpt-4": True},
    {"prompt": "1 + 1?\nA. 2\nB. 3\nAnswer:", "mixtral-8x7b": False, "gpt-4": True},
]

DC_RECORDS = [
    {"question": ODD, "scores": {"meta/llama": 0.6, "zephyr": 0.0}, "cluster_id": 3},
    {"question": "Print ü", "scores": {"meta/llama": 1, "zephyr": 0.1}},
]


def arena_record(index: str, score: float | None, **other: Any) -> dict[str, Any]:
    return {
        "global_index": index,
        "question": f"{ODD} ({index})",
        "llm_selected": "vendor/claude-x",
        "generated_answer": "It is \\boxed{4}",
        "token_usage": {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110},
        "success": True,
        "provider": "vendor",
        "error": None,
        "evaluation_result": {"score": score, "ground_truth": "4", "metric": "math_metric", "inference_cost": 0.00025},
    } | other


ARENA_RECORDS = [
    arena_record("AIME_106", 1.0, run_number=1),
    arena_record("AIME_106", 0.0, run_number=2),
    arena_record("QANTA_Social Science_7", 0.5),
    arena_record("AIME_8", None, success=False, generated_answer="Error: 503", error="503", evaluation_result=None),
]


def bench_run(model: str, costs: list[float]) -> dict[str, Any]:
    return {
        "performance": 0.5,
        "counts": 2,
        "model_name": model,
        "dataset_name": "aime",
        "split": "hybrid",
        "demo": False,
        "records": [
            {
                "index": number + 1,
                "origin_query": f"{number} + 2?",
                "prompt": f"Solve: {number} + 2? {ODD}",
                "prompt_tokens": 20,
                "completion_tokens": 5,
                "cost": cost,
                "score": float(number),
                "prediction": "4",
                "ground_truth": 4,
                "raw_output": "The answer is 4.",
                "extra_fields": {},
            }
            for number, cost in enumerate(costs)
        ],
    }


BENCH_RUNS = {"gpt-5": bench_run("gpt-5", [0.002, 0.003]), "tiny-7b": bench_run("tiny-7b", [0.0, 0.0])}

EMBED_ROWS = [
    {
        "prompt_id": prompt,
        "model_id": place,
        "category_id": 0,
        "label": label,
        "prompt": f"{ODD} {prompt}",
        "model_name": model,
        "category": "gpqa",
    }
    for prompt, place, model, label in [(5, 0, "a/x", 1), (5, 1, "b/y", 0), (5, 0, "a/x", 0), (9, 0, "a/x", 1)]
]

SPROUT_ROWS = [
    {
        "key": "k1",
        "dataset": "math",
        "dataset_level": "Level 5",
        "dataset_idx": 17,
        "prompt": ODD,
        "golden_answer": "4",
        "openai-gpt-4o": {"num_input_tokens": 20, "num_output_tokens": 3, "response": "4", "score": 1.0},
        "wxai-llama": {"num_input_tokens": 22, "num_output_tokens": 4, "response": "ü", "score": 0.0},
    }
]


def _write_bench(folder: Path) -> None:
    for model, run in BENCH_RUNS.items():
        place = folder / "bench" / "aime" / "hybrid" / model
        place.mkdir(parents=True)
        (place / f"aime-hybrid-{model}-20260101_120000.json").write_text(json.dumps(run, ensure_ascii=False), "utf-8")


MMLU_IDS = [f"routellm/mmlu/astronomy/{hashlib.sha1(row['prompt'].encode()).hexdigest()[:12]}" for row in MMLU_ROWS]
CODE, HI, BOXED = "print('ü')", 'say "hi"\n', "It is \\boxed{4}"

SAMPLES: dict[str, Sample] = {
    "tidy": Sample(
        "own.parquet",
        lambda folder: pl.DataFrame(TIDY_ROWS).write_parquet(folder / "own.parquet"),
        [("own/007", "large", 0, 1.0, None, None, 12, None, "4"), ("own/007", "small", 0, 0.0, "5", 1e-6, 12, 1, "4")],
        {"own/007": "sums"},
        {"own/007": "train"},
    ),
    "routerbench": Sample(
        "mbpp_test.csv",
        lambda folder: write_csv(folder / "mbpp_test.csv", WIDE_ROWS),
        [
            ("routerbench/mbpp.dev.1", "gpt-4", 0, 1.0, CODE, 0.001, None, None, None),
            ("routerbench/mbpp.dev.1", "zoo/llama", 0, 0.0, HI, 1e-05, None, None, None),
            ("routerbench/mbpp.dev.2", "gpt-4", 0, 1.0, CODE, None, None, None, None),
            ("routerbench/mbpp.dev.2", "zoo/llama", 0, 0.5, HI, 1e-05, None, None, None),
        ],
        {f"routerbench/mbpp.dev.{number}": "mbpp" for number in (1, 2)},
        {f"routerbench/mbpp.dev.{number}": "test" for number in (1, 2)},
    ),
    "routellm": Sample(
        "mmlu_astronomy.csv",
        lambda folder: write_csv(folder / "mmlu_astronomy.csv", MMLU_ROWS),
        sorted(
            (name, model, 0, float(bool(row[model])), None, None, None, None, None)
            for name, row in zip(MMLU_IDS, MMLU_ROWS, strict=True)
            for model in ("gpt-4", "mixtral-8x7b")
        ),
        dict.fromkeys(MMLU_IDS, "mmlu/astronomy"),
    ),
    "routerdc": Sample(
        "humaneval_test.json",
        lambda folder: (folder / "humaneval_test.json").write_text(json.dumps(DC_RECORDS), "utf-8") and None,
        [
            ("routerdc/humaneval/test/00000", "meta/llama", 0, 0.6, None, None, None, None, None),
            ("routerdc/humaneval/test/00000", "zephyr", 0, 0.0, None, None, None, None, None),
            ("routerdc/humaneval/test/00001", "meta/llama", 0, 1.0, None, None, None, None, None),
            ("routerdc/humaneval/test/00001", "zephyr", 0, 0.1, None, None, None, None, None),
        ],
        {f"routerdc/humaneval/test/0000{number}": "humaneval" for number in (0, 1)},
        {f"routerdc/humaneval/test/0000{number}": "test" for number in (0, 1)},
    ),
    "routerarena": Sample(
        "claude-x.jsonl",
        lambda folder: write_jsonl(folder / "claude-x.jsonl", ARENA_RECORDS),
        [
            ("routerarena/AIME_106", "vendor/claude-x", 0, 1.0, BOXED, 0.00025, 100, 10, "4"),
            ("routerarena/AIME_106", "vendor/claude-x", 1, 0.0, BOXED, 0.00025, 100, 10, "4"),
            ("routerarena/AIME_8", "vendor/claude-x", 0, None, None, None, 100, 10, None),
            (
                "routerarena/QANTA_Social Science_7",
                "vendor/claude-x",
                0,
                0.5,
                "It is \\boxed{4}",
                0.00025,
                100,
                10,
                "4",
            ),
        ],
        {
            "routerarena/AIME_106": "AIME",
            "routerarena/AIME_8": "AIME",
            "routerarena/QANTA_Social Science_7": "QANTA_Social Science",
        },
    ),
    "llmrouterbench": Sample(
        "bench",
        _write_bench,
        [
            ("llmrouterbench/aime/hybrid/1", "gpt-5", 0, 0.0, "The answer is 4.", 0.002, 20, 5, "4"),
            ("llmrouterbench/aime/hybrid/1", "tiny-7b", 0, 0.0, "The answer is 4.", None, 20, 5, "4"),
            ("llmrouterbench/aime/hybrid/2", "gpt-5", 0, 1.0, "The answer is 4.", 0.003, 20, 5, "4"),
            ("llmrouterbench/aime/hybrid/2", "tiny-7b", 0, 1.0, "The answer is 4.", None, 20, 5, "4"),
        ],
        {f"llmrouterbench/aime/hybrid/{number}": "aime" for number in (1, 2)},
    ),
    "embedllm": Sample(
        "val.csv",
        lambda folder: write_csv(folder / "val.csv", EMBED_ROWS),
        [
            ("embedllm/gpqa/5", "a/x", 0, 1.0, None, None, None, None, None),
            ("embedllm/gpqa/5", "a/x", 1, 0.0, None, None, None, None, None),
            ("embedllm/gpqa/5", "b/y", 0, 0.0, None, None, None, None, None),
            ("embedllm/gpqa/9", "a/x", 0, 1.0, None, None, None, None, None),
        ],
        {f"embedllm/gpqa/{number}": "gpqa" for number in (5, 9)},
        {f"embedllm/gpqa/{number}": "validation" for number in (5, 9)},
    ),
    "sprout": Sample(
        "train-00000-of-00003.parquet",
        lambda folder: pl.DataFrame(SPROUT_ROWS).write_parquet(folder / "train-00000-of-00003.parquet"),
        [
            ("sprout/k1", "openai-gpt-4o", 0, 1.0, "4", None, 20, 3, "4"),
            ("sprout/k1", "wxai-llama", 0, 0.0, "ü", None, 22, 4, "4"),
        ],
        {"sprout/k1": "math"},
        {"sprout/k1": "train"},
    ),
}


def gzipped(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed
