#!/usr/bin/env python3
"""Judge of payloads: python-jsonschema, which knows nothing of Heron, says whether they are what config/schemas/ promises.

  judge_payload.py schema SCHEMA FILE   one payload a line, all against one schema
  judge_payload.py topics PREFIX FILE   lines of topic<TAB>payload, each against the schema that config/topics.md names for the topic

Every line is judged; complaints go to standard output, and a last line says how many there were. Beyond the schema: no key twice, keys in the schema's
order, no NaN or Infinity, and nothing unpublished among the topics. Exit 0: all passed; 1: complaints, or nothing to judge.
"""
import json
import os
import re
import sys

import jsonschema

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCHEMAS = os.path.join(ROOT, 'config', 'schemas')


def load(name):
    path = name if os.path.sep in name else os.path.join(SCHEMAS, name)
    with open(path, encoding='utf-8') as f:
        return json.load(f)


def pointer(schema, fragment):
    for part in [p for p in fragment.split('/') if p]:
        schema = schema[part]
    return schema


def inline(schema):
    """References into neighbouring files replaced by what they name: needs no registry, whose interface differs between versions."""
    if isinstance(schema, dict):
        if '$ref' in schema:
            name, _, fragment = schema['$ref'].partition('#')
            return inline(pointer(load(name), fragment))
        return {k: inline(v) for k, v in schema.items()}
    if isinstance(schema, list):
        return [inline(v) for v in schema]
    return schema


def pairs(items):
    keys = [k for k, _ in items]
    if len(keys) != len(set(keys)):
        raise ValueError(f'a key twice: {keys}')
    return dict(items)


def no_constant(word):
    raise ValueError(f'{word} is not JSON')


def check_order(schema, value, path=''):
    if isinstance(value, dict):
        for option in schema.get('anyOf', []):
            if option.get('type') == 'object':
                schema = option
        declared = list(schema.get('properties', {}))
        found = [declared.index(k) for k in value if k in declared]
        if found != sorted(found):
            raise ValueError(f'{path or "/"}: keys out of order: {list(value)}')
        rest = schema.get('additionalProperties')
        for k, v in value.items():
            inner = schema.get('properties', {}).get(k, rest if isinstance(rest, dict) else {})
            check_order(inner, v, f'{path}/{k}')
    elif isinstance(value, list):
        for i, v in enumerate(value):
            check_order(schema.get('items', {}), v, f'{path}/{i}')


class Judge:
    def __init__(self, name):
        self.schema = inline(load(name))
        jsonschema.Draft202012Validator.check_schema(self.schema)
        self.validator = jsonschema.Draft202012Validator(self.schema)
        self.is_word = 'enum' in self.schema

    def check(self, payload):
        if self.is_word:
            value = payload
        else:
            value = json.loads(payload, object_pairs_hook=pairs, parse_constant=no_constant)
        error = jsonschema.exceptions.best_match(self.validator.iter_errors(value))
        if error:
            raise ValueError(f'/{"/".join(map(str, error.absolute_path))}: {error.message}')
        check_order(self.schema, value)


def topic_table(prefix):
    """[(pattern, schema)] of what goes out, from the table of topics.md."""
    table = []
    with open(os.path.join(ROOT, 'config', 'topics.md'), encoding='utf-8') as f:
        for line in f:
            cells = [c.strip().strip('`') for c in line.strip().strip('|').split('|')]
            if len(cells) < 7 or cells[1] != 'out':
                continue
            if not cells[0].startswith('P/'):
                raise SystemExit(f'topics.md: {cells[0]} does not begin with P/')
            pattern = re.escape(prefix + cells[0][1:]).replace('<cam>', '[a-z0-9_]{1,48}')
            table.append((re.compile(pattern), cells[2]))
    if not table:
        raise SystemExit('topics.md: no table of topics')
    return table


def main():
    mode, what, path = sys.argv[1:4]
    n = bad = 0
    judges = {}
    table = topic_table(what) if mode == 'topics' else []
    for line in open(path, 'rb'):
        n += 1
        try:
            payload = line.rstrip(b'\n').decode('utf-8')
            name = what
            if mode == 'topics':
                topic, _, payload = payload.partition('\t')
                names = [schema for pattern, schema in table if pattern.fullmatch(topic)]
                if len(names) != 1:
                    raise ValueError(f'topic "{topic}" is in config/topics.md {len(names)} times')
                name = names[0]
            if name not in judges:
                judges[name] = Judge(name)
            judges[name].check(payload)
        except (ValueError, RecursionError) as e:
            bad += 1
            print(f'line {n}: {e}\n  {line[:600]!r}')
    print(f'{n} judged, {bad} refused')
    return 1 if bad or n == 0 else 0


if __name__ == '__main__':
    sys.exit(main())
