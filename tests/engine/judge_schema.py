#!/usr/bin/env python3
"""Judge of constrained generations: reads lines of {"schema": ..., "text": ...} and fails on the first that is not a compact instance of its schema, with the schema's
key order and no key twice. The validator is python-jsonschema, which knows nothing of Heron."""
import json
import sys

import jsonschema


def pairs(items):
    keys = [k for k, _ in items]
    if len(keys) != len(set(keys)):
        raise ValueError(f'a key twice: {keys}')
    return dict(items)


def check_order(schema, value, path):
    if isinstance(value, dict):
        declared = list(schema.get('properties', {}))
        found = [declared.index(k) for k in value]
        if found != sorted(found):
            raise ValueError(f'{path}: keys out of order')
        for k, v in value.items():
            check_order(schema['properties'][k], v, f'{path}/{k}')
    elif isinstance(value, list):
        for v in value:
            check_order(schema['items'], v, path + '/*')


def close(schema):
    """Heron emits declared properties only: say so to the validator."""
    if schema.get('type') == 'object':
        schema = dict(schema, additionalProperties=False, properties={k: close(v) for k, v in schema.get('properties', {}).items()})
    elif schema.get('type') == 'array':
        schema = dict(schema, items=close(schema['items']))
    return schema


n = 0
for line in open(sys.argv[1], encoding='utf-8'):
    case = json.loads(line)
    text = case['text']
    try:
        value = json.loads(text, object_pairs_hook=pairs)
        jsonschema.validate(value, close(case['schema']), cls=jsonschema.Draft202012Validator)
        check_order(case['schema'], value, '')
        outside = []
        quoted = escaped = False
        for c in text:
            if quoted:
                quoted, escaped = (c != '"' or escaped), (c == '\\' and not escaped)
            else:
                outside.append(c)
                quoted = c == '"'
        if any(c.isspace() for c in outside):
            raise ValueError('white space between values')
    except Exception as e:  # any failure is a verdict
        print(f'case {n}: {e}\n  schema {json.dumps(case["schema"])}\n  text {text!r}')
        sys.exit(1)
    n += 1
print(n)
