"""How a language model's turns are written and read: the chat template and the parser of the brief action language.

Models that know a tool-calling format keep their own. Those that know none (SmolLM2) or nothing at all (`tiny`) get
this one: ChatML in which a tool call is `>verb object` (see `xrouter_sim.envs.brief`). Both parts lie in the
tokenizer's own files, so a saved router needs no code of this project.
"""

BRIEF = """\
{%- macro call(function) -%}
>{{ function.name }}{% if function.arguments is mapping %}{% for key, value in function.arguments.items() %} \
{{ value if key == 'what' else {key: value} | tojson }}{% endfor %}{% endif %}
{%- endmacro -%}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}{{ message.content or '' }}
{%- for tool_call in message.tool_calls or [] %}{{ '\\n' if not loop.first }}{{ call(tool_call.function) }}{% endfor %}
{{- '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ message.content }}<|im_end|>{% endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
"""Jinja chat template. Tools are not listed: five verbs are learned in the warm start, and a list costs 500 tokens."""

BRIEF_RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open_pattern": r">(?P<name>call|use|poll|take|vote)\b *",
            "close_pattern": r"\s*(?:\n|(?=<\|im_end\|>))",
            "repeats": True,
            "content": "text",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": {"what": "{content}"}}},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}
"""The parser's side (transformers' `response_template`)."""

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
