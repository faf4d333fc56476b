"""What transformers and jinja2 make of chat templates and expressions, one JSON object a line.

usage: reference_chat.py chats|expressions|masks OUT
"""
import datetime
import glob
import json
import os
import random
import sys

from transformers.utils import chat_template_utils as reference

GOLDEN = "tests/golden/chat_templates"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class FixedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 3, 7, 16, 5, 9, 1234)


reference.datetime = FixedDatetime


def render(source, case, **options):
    """As apply_chat_template(tokenize=False) does; the spans as byte ranges."""
    messages = reference._normalize_chat_messages(case["messages"])
    if not messages:
        raise ValueError("empty conversation")
    marked = not options.get("continue_final_message")
    texts, spans = reference.render_jinja_template(
        conversations=[messages], tools=case.get("tools"), documents=case.get("documents"),
        chat_template=source, return_assistant_tokens_mask=marked,
        **options, **{**TOKENS, **case.get("variables", {})})
    text = texts[0]
    text.encode("utf-8")
    offsets = [[len(text[:b].encode()), len(text[:e].encode())] for b, e in (spans[0] if spans else [])]
    return text, offsets


def chats():
    with open(f"{GOLDEN}/conversations.json", encoding="utf-8") as file:
        conversations = json.load(file)
    for path in sorted(glob.glob(f"{GOLDEN}/*.jinja")):
        with open(path, encoding="utf-8", newline="") as file:
            source = file.read()
        for name, case in conversations.items():
            for options in ({}, {"add_generation_prompt": True}, {"continue_final_message": True}):
                row = {"template": os.path.basename(path), "conversation": name, "options": options}
                try:
                    row["text"], row["spans"] = render(source, case, **options)
                except Exception as error:  # Whatever it raises, the other side has to fail too.
                    row["error"] = f"{type(error).__name__}: {error}"[:300]
                yield row


VARIABLES = {
    "s": "Hello World", "u": "ÄÖ straße ΑΣΟΣ ﬁ 你好", "e": "", "ws": " \t x y \n", "n": 7, "z": 0, "m": -3,
    "f": 2.5, "g": -0.1, "t": True, "no": None, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"],
    "d": {"b": 1, "a": [1, 2], "C": {"x": None}}, "el": [], "ed": {},
    "rows": [{"k": "x", "v": 3}, {"k": "Y", "v": 1}, {"k": "x", "v": 2}, {"v": 0}],
    "lines": "one\n two\n\nthree\r\nfour",
}
ATOMS = list(VARIABLES) + ["missing", "1", "0", "-2", "3.5", "1e3", "'a'", "''", "'%s-%s'", "'{}|{}'", "true",
                           "false", "none", "[1, 'x', none]", "(1, 2)", "()", "{'q': 1, 2: 'w'}", "range(4)",
                           "d.items()", "d.keys()", "d.values()", "s[0]", "l[-1]", "d.a", "d['b']", "rows[0].k",
                           "s[1:4]", "l[::-1]", "u[2:-1]", "s[::2]", "namespace(a=1).a", "loop", "'a' 'b'"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
FILTERS = ["trim", "length", "count", "upper", "lower", "capitalize", "title", "first", "last", "list", "sort",
           "sort(reverse=true)", "sort(case_sensitive=true)", "reverse|list", "unique|list", "join(', ')", "join",
           "string", "int", "int(5)", "float", "abs", "round", "round(1)", "round(0, 'floor')", "round(1, 'ceil')",
           "sum", "min", "max", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)", "tojson(sort_keys=true)",
           "tojson(separators=(',', ':'))", "default('dflt')", "d('x', true)", "replace('o', '0')",
           "replace('l', 'LL', 1)", "indent", "indent(2, true)", "indent('> ', first=true, blank=true)", "items|list",
           "dictsort", "dictsort(by='value')", "dictsort(reverse=true)", "batch(2)|list", "batch(2, 'f')|list",
           "slice(2)|list", "slice(3, 0)|list", "wordcount", "urlencode", "safe", "escape", "e", "center(15)",
           "truncate(6)", "truncate(5, true, '~', 0)", "format(1, 'z')", "map('upper')|list", "map('length')|list",
           "map(attribute='k')|list", "map(attribute='k', default='-')|list", "map('default', 'q')|list",
           "select|list", "select('odd')|list", "reject('none')|list", "selectattr('k')|list",
           "selectattr('k', 'equalto', 'x')|list", "rejectattr('v', 'gt', 1)|list", "groupby('k')", "groupby('k', '')",
           "sum(attribute='v')", "max(attribute='v')", "sort(attribute='v')", "sort(attribute='k,v')", "attr('a')",
           "trim('H d')", "select('string')|join('/')", "nosuch"]
TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "boolean", "true",
         "false", "integer", "float", "callable", "odd", "even", "divisibleby 2", "divisibleby(3)", "equalto 1",
         "== 'a'", "eq(7)", "in [1, 2, 3]", "in 'Hello'", "lower", "upper", "sameas true", "gt 1", "lt(2.5)", "ne 0",
         "escaped", "filter", "test", "not none", "not defined"]
METHODS = ["strip()", "lstrip()", "rstrip()", "strip('Hd ')", "split()", "split(' ')", "split('l', 1)", "rsplit('o', 1)",
           "rsplit(none, 1)", "split(sep='o', maxsplit=1)", "splitlines()", "splitlines(true)", "upper()", "lower()",
           "title()", "capitalize()", "startswith('He')", "startswith(('x', 'H'))", "endswith('d')", "find('o')",
           "find('o', 5)", "rfind('o')", "index('z')", "count('l')", "count('')", "replace('l', '')", "replace('', '-')",
           "join(['x', 'y'])", "join(ls)", "zfill(12)", "center(15, '*')", "ljust(13)", "rjust(13, '.')", "isdigit()",
           "isalpha()", "isalnum()", "isspace()", "isupper()", "islower()", "istitle()", "isascii()",
           "format(1, 2)", "format(s, n)", "partition('o')", "rpartition('o')", "removeprefix('He')", "removesuffix('d')",
           "items()", "keys()", "values()", "get('b')", "get('zz', 9)", "get('a')[0]", "copy()", "index(1)", "count(2)",
           "append(1)", "pop()", "update({})", "nosuch", "nosuch.deeper", "items", "__class__", "isprintable()", "isnumeric()"]
FORMATS = ["'%d|%5d|%-5d|%05d' % (n, n, n, m)", "'%s %r' % (s, s)", "'%.2f %e %g' % (f, f, f)", "'%x %X %o %#x' % (255, 255, 8, 255)",
           "'%(b)s' % d", "'%%' % ()", "'%5.1f|' % f", "'%+d % d' % (n, n)", "'%c%c' % (65, 'z')", "'%s' % l", "'%s' % (l,)",
           "'{:>8}|{:<8}|{:^8}'.format(s[:3], n, f)", "'{:05d} {:+.2f} {:,}'.format(n, f, 1234567)", "'{0} {1} {0}'.format(1, 2)",
           "'{a} {b[0]} {c.k}'.format(a=1, b=l, c=rows[0])", "'{!r:>10}'.format('x')", "'{:x} {:#b} {:%}'.format(255, 5, 0.25)",
           "'{:.3}'.format('abcdef')", "'{:*^9}'.format('mid')", "'{:{}}'.format('w', 5)", "'{{}} {}'.format(1)", "'{'.format(1)",
           "'{:.3f} {:10.2e}'.format(3.14159, 12345.678)", "'{:.3} {:.10} {:.1}'.format(2.0, 3.14159, 123.0)"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def expression(self, depth):
        r = self.random
        if depth <= 0 or r.random() < 0.15:
            return r.choice(ATOMS)
        sub = lambda: self.expression(depth - 1)
        kind = r.randrange(12)
        if kind <= 2:
            return f"({sub()} {r.choice(BINARY)} {sub()})"
        if kind <= 5:
            return f"({sub()})|{r.choice(FILTERS)}"
        if kind == 6:
            return f"({sub()} is {r.choice(TESTS)})"
        if kind <= 8:
            return f"({sub()}).{r.choice(METHODS)}"
        if kind == 9:
            return r.choice([f"not {sub()}", f"-({sub()})", f"[{sub()}, {sub()}]", f"({sub()}, )", f"{{'k': {sub()}}}",
                             f"({sub()})[{sub()}]",
                             # jinja2 looks up a slice of a constant by other rules than one of a variable.
                             f"{r.choice(list(VARIABLES))}[{sub()}:{sub()}]", f"+({sub()})"])
        if kind == 10:
            return f"({sub()} if {sub()} else {sub()})" if r.random() < 0.7 else f"({sub()} if {sub()})"
        return r.choice([f"({sub()} < {sub()} <= {sub()})", r.choice(FORMATS), f"({sub()} ~ {sub()} ~ {sub()})"])

    def statement(self):
        r = self.random
        a, b, c = (self.expression(1) for _ in range(3))
        sp = lambda: r.choice(["", " ", "\n", "  \n ", "\n\n", "\t"])
        ws = lambda: r.choice(["", "", "-", "+"])
        tag = lambda body: "{%" + ws() + " " + body + " " + ws() + "%}"
        out = lambda e: "{{" + r.choice(["", "-"]) + " " + e + " " + r.choice(["", "-"]) + "}}"
        forms = [
            lambda: tag(f"for x in {a}") + sp() + out("loop.index ~ x ~ loop.last") + sp() + tag("else") + "E" + tag("endfor"),
            lambda: tag(f"for x in {a} if x") + sp() + out("x") + out("loop.length") + tag("endfor"),
            lambda: tag("for k, v in d.items()") + sp() + out("k ~ '=' ~ v") + out("loop.revindex") + tag("endfor"),
            lambda: tag(f"if {a}") + sp() + "A" + sp() + tag(f"elif {b}") + "B" + sp() + tag("else") + sp() + "C" + tag("endif"),
            lambda: tag(f"set x = {a}") + sp() + out("x") + sp() + out("x|string|length"),
            lambda: tag("set x") + sp() + out(a) + "t" + sp() + tag("endset") + out("x|upper"),
            lambda: tag("set ns = namespace(i=0)") + tag(f"for x in {a}") + tag("set ns.i = ns.i + 1") + tag("set y = x") + tag("endfor") + out("ns.i ~ y"),
            lambda: tag(f"macro f(p, q={b})") + sp() + out("p ~ q") + out("varargs") + tag("endmacro") + out(f"f({a})") + out(f"f({a}, {c}, 1)"),
            lambda: tag("macro f(p)") + "<" + out("caller(p)") + ">" + tag("endmacro") + tag(f"call(y) f({a})") + sp() + out("y") + tag("endcall"),
            lambda: tag("filter upper") + sp() + "abc" + out(a) + tag("endfilter"),
            lambda: tag(f"with x = {a}, y = {b}") + out("x ~ y") + sp() + tag("endwith") + out("x"),
            lambda: tag("for x in l") + tag(f"if {a}") + tag(r.choice(["break", "continue"])) + tag("endif") + out("x") + sp() + tag("else") + "E" + tag("endfor"),
            lambda: "a" + sp() + "{#" + ws() + " c " + ws() + "#}" + sp() + "b" + sp() + tag("raw") + sp() + "{{ x }}{% y %}" + sp() + tag("endraw") + sp() + "c",
            lambda: tag(f"for x in {a}") + out("loop.changed(x)") + out("loop.previtem|default('-')") + out("loop.nextitem|default('+')") + out("loop.cycle('o', 'e')") + tag("endfor"),
            lambda: tag("for x in [1, [2, [3]]] recursive") + out("loop(x) if x is iterable else x") + sp() + tag("endfor") + sp(),
            lambda: tag("generation") + sp() + out(a) + tag("set s = 1") + tag("endgeneration") + out("s"),
            lambda: tag("set c = cycler('a', 'b')") + tag("set j = joiner('|')") + tag("for x in l") + out("j() ~ c.next()") + tag("endfor") + out("c.current"),
            lambda: tag(f"set x, y = {a}, {b}") + out("y") + out("x") + tag("set p = " + a) + out("p"),
        ]
        return sp() + r.choice(forms)() + sp() + out(c) + sp()


def has_address(text):
    return " object at 0x" in text or "<function" in text or "<bound method" in text or "<built-in" in text \
        or "<cyfunction" in text or "<class" in text or "<method" in text


def expressions():
    generator = Generator(20250307)
    count = 0
    seen = set()
    sources = ["{{ " + text + " }}" for text in FORMATS]
    sources += ["{{ (%s)|%s }}" % (atom, name) for atom in ATOMS[:18] for name in FILTERS]
    sources += ["{{ (%s) is %s }}" % (atom, name) for atom in ATOMS[:18] for name in TESTS]
    sources += ["{{ (%s).%s }}" % (atom, name) for atom in ATOMS[:18] for name in METHODS]
    for i in range(6000):
        sources.append("{{ " + generator.expression(1 + i % 3) + " }}" if i % 3 else generator.statement())
    for source in sources:
        if source in seen:
            continue
        seen.add(source)
        row = {"source": source}
        try:
            row["text"] = render(source, {"messages": [{"role": "user"}], "variables": VARIABLES})[0]
        except RecursionError:
            continue
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"[:300]
        # Addresses differ from run to run, and huge powers are refused here.
        if has_address(row.get("text", "")) or len(row.get("text", "")) > 20000:
            continue
        count += 1
        yield row


def byte_level_tokenizer(conversations):
    """Trained on the conversations, so that tokens cross the borders of what was said."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    tokenizer.train_from_iterator([json.dumps(c, ensure_ascii=False) for c in conversations] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **TOKENS)


def masks():
    with open(f"{GOLDEN}/conversations.json", encoding="utf-8") as file:
        conversations = json.load(file)
    tokenizer = byte_level_tokenizer(conversations.values())
    for path in sorted(glob.glob(f"{GOLDEN}/*.jinja")):
        with open(path, encoding="utf-8", newline="") as file:
            source = file.read()
        if "generation %}" not in source:
            continue
        for name, case in conversations.items():
            options = dict(tools=case.get("tools"), documents=case.get("documents"), chat_template=source,
                           **case.get("variables", {}))
            try:
                text = tokenizer.apply_chat_template(case["messages"], tokenize=False, **options)
                out = tokenizer.apply_chat_template(case["messages"], return_dict=True,
                                                    return_assistant_tokens_mask=True, **options)
            except Exception:  # The chats have these already.
                continue
            offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            yield {"template": os.path.basename(path), "conversation": name, "text": text,
                   "mask": list(out["assistant_masks"]),
                   "offsets": [[len(text[:b].encode()), len(text[:e].encode())] for b, e in offsets]}


def main():
    mode, path = sys.argv[1:]
    rows = {"chats": chats, "expressions": expressions, "masks": masks}[mode]()
    with open(path, "w", encoding="utf-8") as file:
        if mode == "expressions":
            file.write(json.dumps({"variables": VARIABLES}, ensure_ascii=False) + "\n")
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


main()
