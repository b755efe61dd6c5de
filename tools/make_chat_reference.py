"""What chat templates make of a user's turn in transformers: truth for tests/chat.rs.

    python tools/make_chat_reference.py

Writes tests/chat_reference.json. The templates have the constructs of those in use (ChatML, Llama 3, Gemma, Mistral,
Qwen 3, and rarer ones), in this project's own words; the tokenizer is that of the built-in demo. Each is rendered and
tokenised by `apply_chat_template` with `add_generation_prompt`.
"""

import json
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "assets" / "demo"
TEXTS = ["What is it?", 'Is 2 < 3 & "x" a \\ b?\n', "  Größe — 雪 <s> it's  ", ""]
CHATML = """{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
{%- endif %}
{% for message in messages %}
{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
LLAMA3 = """{%- set date_string = date_string if date_string is defined else '26 Jul 2024' %}
{%- if messages[0].role == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- bos_token + "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today Date: " ~ date_string ~ "\\n\\n" ~ system_message }}{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate') }}{% endif %}
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}
{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""
MISTRAL = """{%- set loop_messages = messages %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == loop_messages[-1]) %}{{- "[TOOLS]" }}{%- endif %}
        {{- "[INST] " + message["content"] + " [/INST]" }}
    {%- elif message["role"] == "assistant" %}
        {%- generation -%}{{- " " + message["content"]|trim + eos_token}}{%- endgeneration -%}
    {%- else %}
        {{- raise_exception("only user and assistant") }}
    {%- endif %}
{%- endfor %}
"""
QWEN3 = """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- if loop.last or (not loop.last and loop.index0 > ns.last_query_index) %}{{- ns.last_query_index }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
RARE = """{#- a comment -#}
{%- macro turn(message, mark='|') -%}
    {{ mark ~ message.role.upper() ~ mark }}{{ message['content'] | tojson }}
{%- endmacro -%}
{%- for key, value in {'b': 1, 'a': [1, 'x', none, true, 1.5]}.items() %}
{{ key }}={{ value | tojson }}{% if not loop.last %}; {% endif %}
{%- endfor %}

{% for message in messages %}
    {% if message.content is not string or message is not mapping %}{% continue %}{% endif %}
    {{ turn(message) }}
    {{ message | tojson(indent=2) }}
    {% set words = message.content.split() %}
  {{- words | join('+') }} {{ words[:2] | length }} {{ message.content.strip().replace('is', 'IS') }}
    {% break %}
{% endfor %}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 7 // 2 }} {{ 'yes' if bos_token else 'no' }} {{ undefined_name }}{{ eos_token is defined }}
{% generation %}
{{ '%.2f' % 1.5 if false else 'end' }}
{% endgeneration %}
"""
# What is none is no list; JSON by all of json.dumps' arguments; the ends of lines as Windows writes them.
PYTHON = """{%- if tools is iterable and tools|length > 0 %}tools{% endif %}\r
{%- set data = {'b': [1, 2.5, none, true], 'a': {'z': 'Größe "x" 😀', 'y': {}}, 'c': []} %}\r
{{ data|tojson }}\r
{{ data|tojson(sort_keys=true) }} {{ data|tojson(separators=(',', ':')) }}\r
{{ data|tojson(indent=2) }}\r
{{ data|tojson(indent=1, separators=(' ;', '=')) }} {{ data|tojson(ensure_ascii=true) }}
{%- for value in ['a', {}, [], none, 1, true, missing] %}
 {{ value is iterable }} {{ value is sequence }} {{ value is mapping }}
{%- endfor %}
{{- messages[0].content }}"""
CASES = {
    "chatml": CHATML,
    "llama 3": LLAMA3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "qwen 3": QWEN3,
    "rare": RARE,
    "python": PYTHON,
}


def main() -> None:
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (Path(folder) / name).write_bytes((DEMO / name).read_bytes())
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    for name, template in CASES.items():
        turns = []
        for text in TEXTS:
            messages = [{"role": "user", "content": text}]
            options = {"chat_template": template, "add_generation_prompt": True}
            rendered = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)["input_ids"]
            turns.append({"text": text, "rendered": rendered, "ids": list(ids)})
        cases.append({"name": name, "template": template, "turns": turns})
    out = ROOT / "tests" / "chat_reference.json"
    out.write_text(json.dumps({"cases": cases}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
