"""The README.md of an exported Hugging Face dataset: YAML for the hub, and what a reader must know."""

from collections.abc import Mapping

from responses_db.store import ResponseStore

SIZES = [(10**exponent, name) for exponent, name in [(3, "n<1K"), (4, "1K<n<10K"), (5, "10K<n<100K")]]
SIZES += [(10**6, "100K<n<1M"), (10**7, "1M<n<10M"), (10**8, "10M<n<100M")]

COLUMNS = """
| column | meaning |
| --- | --- |
| dataset, split, domain | where a query is from |
| query_id | unique within dataset |
| query, question | the prompt as sent; the same without its few-shot prefix |
| model, prompt_style, sample_index | who answered, under which named system prompt, which of several answers |
| response, status, error | the answer; ok, truncated, refused or failed |
| score | grade from 0 to 1, null where the call failed or nothing is graded yet |
| prompt_tokens, completion_tokens, cached_prompt_tokens, reasoning_tokens | null where unknown |
| cost_usd | USD for this call; null is unknown, never zero |
| reference | gold answer, null where the source has none |
| provenance | live, local, imported or simulated |
| finish_reason, model_answered, max_tokens, latency_s, mean_logprob | as the provider said, null where unknown |
"""


def dataset_card(store: ResponseStore, rows: Mapping[str, int]) -> str:
    """The card of a dataset with so many rows a split. The licence is left to who publishes it."""
    return "\n".join([_front_matter(rows), *_text(store, rows)]) + "\n"


def _front_matter(rows: Mapping[str, int]) -> str:
    total = sum(rows.values())
    size = next((name for limit, name in SIZES if total < limit), "n>100M")
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in _ordered(rows))
    return (
        "---\npretty_name: Responses of language models, graded and priced\n"
        f"license: unknown\ntags:\n- llm-routing\nsize_categories:\n- {size}\n"
        f"configs:\n- config_name: default\n  data_files:\n{files}---\n"
    )


def _ordered(rows: Mapping[str, int]) -> list[str]:
    return sorted(rows, key=["train", "validation", "test"].index)


def _text(store: ResponseStore, rows: Mapping[str, int]) -> list[str]:
    count = "SELECT count(DISTINCT query_id), count(DISTINCT model_id), string_agg(DISTINCT provenance) FROM responses"
    queries, models, provenance = store.frame(count).row(0)
    sources = ", ".join(store.frame("SELECT DISTINCT dataset FROM queries ORDER BY 1")["dataset"])
    kinds = ", ".join(sorted(provenance.split(",")))
    loud = "**Some of these answers are SIMULATED: no model gave them.**\n" if "simulated" in kinds else ""
    return [
        "# Responses of language models, graded and priced\n",
        f"{sum(rows.values()):,} answers of {models:,} models to {queries:,} queries of {sources}. "
        f"Where they are from: {kinds}.\n",
        loud + COLUMNS.strip() + "\n",
        f"Exported from a store with content hash `{store.content_hash()}`. Who publishes this adds the licences of "
        "its sources.",
    ]
