"""The LLM router: a language model that calls models through tools, warm-started on traces, then trained by GRPO.

Needs the extra `llm`; nothing here is imported unless it is used.
"""
