"""An independent view of JSON schemas, with a validator and a generator of its own.

check CASES.json             every text is JSON that satisfies its schema
generate SCHEMAS.json OUT    random values of each schema, written by json.dumps in several styles
"""
import json
import random
import re
import sys

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def resolve(schema, root):
    while isinstance(schema, dict) and "$ref" in schema:
        target = root
        for part in schema["$ref"].split("/")[1:]:
            target = target[part]
        schema = target
    return schema


def has_type(value, name):
    if name == "integer":
        return not isinstance(value, bool) and isinstance(value, (int, float)) and value == int(value)
    if name == "number":
        return not isinstance(value, bool) and isinstance(value, (int, float))
    return isinstance(value, TYPES[name])


def same(a, b):
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def valid(value, schema, root):
    schema = resolve(schema, root)
    if isinstance(schema, bool):
        return schema
    types = schema.get("type")
    if types is not None and not any(has_type(value, t) for t in
                                     (types if isinstance(types, list) else [types])):
        return False
    if "const" in schema and not same(value, schema["const"]):
        return False
    if "enum" in schema and not any(same(value, e) for e in schema["enum"]):
        return False
    if "anyOf" in schema and not any(valid(value, s, root) for s in schema["anyOf"]):
        return False
    if "allOf" in schema and not all(valid(value, s, root) for s in schema["allOf"]):
        return False
    if "oneOf" in schema and sum(valid(value, s, root) for s in schema["oneOf"]) != 1:
        return False
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9):
            return False
        if "pattern" in schema and re.search(schema["pattern"], value) is None:
            return False
    if has_type(value, "number"):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            return False
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            return False
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            return False
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9):
            return False
        prefix = schema.get("prefixItems", [])
        for i, item in enumerate(value):
            rule = prefix[i] if i < len(prefix) else schema.get("items", True)
            if not valid(item, rule, root):
                return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        if any(name not in value for name in schema.get("required", [])):
            return False
        for name, item in value.items():
            rule = properties.get(name, schema.get("additionalProperties", True))
            if not valid(item, rule, root):
                return False
    return True


def any_value(depth):
    kind = random.randrange(7 if depth > 0 else 5)
    if kind == 5:
        return [any_value(depth - 1) for _ in range(random.randrange(3))]
    if kind == 6:
        return {some_text(): any_value(depth - 1) for _ in range(random.randrange(3))}
    return [None, True, random.randrange(-99, 99), random.uniform(-2, 2), some_text()][kind]


def some_text(low=0, high=6):
    letters = "abz 09\"\\\n\té€\U0001F600/"
    return "".join(random.choice(letters) for _ in range(random.randint(low, high)))


def make(schema, root, depth=4):
    schema = resolve(schema, root)
    if isinstance(schema, bool):
        return any_value(2)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            # The last alternative ends a recursion.
            return make(schema[key][-1] if depth <= 0 else random.choice(schema[key]), root, depth - 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return random.choice(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = random.choice(kind)
    if kind is None:
        return any_value(2)
    if kind == "boolean":
        return random.random() < 0.5
    if kind == "null":
        return None
    if kind == "string":
        if "pattern" in schema:
            return random.choice({"^a": ["ab", "abb\"\\b"], "x\\": ["x1", "yy", "a\nx7b", "yyé"]}
                                 [schema["pattern"][:2]])
        return some_text(schema.get("minLength", 0), schema.get("maxLength", 6))
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        low = (high - 5000 if high is not None else -5000) if low is None else low
        high = low + 5000 if high is None else high
        while True:
            value = random.randint(low, high) if kind == "integer" else round(
                random.uniform(low, high), random.randrange(1, 4))
            if valid(value, schema, root):
                return value
    if kind == "array":
        prefix = schema.get("prefixItems", [])
        low, high = schema.get("minItems", 0), schema.get("maxItems", 3)
        count = max(random.randint(low, high), len(prefix)) if depth > 0 else max(low, len(prefix))
        return [make(prefix[i] if i < len(prefix) else schema.get("items", True), root, depth - 1)
                for i in range(count)]
    properties = schema.get("properties", {})
    value = {}
    for name, rule in properties.items():
        if name in schema.get("required", []) or (depth > 0 and random.random() < 0.5):
            value[name] = make(rule, root, depth - 1)
    extra = schema.get("additionalProperties", not properties)
    if extra is not False:
        for name in random.sample(["z", "b", "aba", "y e"], random.randrange(3)):
            value[name] = make(extra, root, depth - 1)
    return value


def write(value):
    style = random.randrange(3)
    if style == 0:
        return json.dumps(value)
    if style == 1:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value, ensure_ascii=False, indent=2)


def main():
    if sys.argv[1] == "check":
        count = 0
        for case in json.load(open(sys.argv[2])):
            for text in case["texts"]:
                count += 1
                value = json.loads(text)
                if not valid(value, case["schema"], case["schema"]):
                    sys.exit(f"{text!r} does not satisfy {case['schema']}")
        print(f"{count} texts satisfy their schemas")
        return
    random.seed(9)
    made = []
    for schema in map(json.loads, json.load(open(sys.argv[2]))):
        texts = []
        for _ in range(40):
            value = make(schema, schema)
            assert valid(value, schema, schema), (value, schema)
            # The grammar writes constants in their shortest form.
            fixed = "const" in json.dumps(schema) or "enum" in json.dumps(schema)
            texts.append(json.dumps(value, ensure_ascii=False, separators=(",", ":"))
                         if fixed else write(value))
        made.append(texts)
    json.dump(made, open(sys.argv[3], "w"))


main()
