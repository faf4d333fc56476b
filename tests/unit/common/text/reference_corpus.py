"""Texts to tokenize: all scripts, emoji, control characters, runs of white space, code, bytes."""

import random

WORDS = (
    "the of and to in is that it was for on are as with his they at be this from have or one had by "
    "hello world don't I'm we'll they've IT'S you'RE 123 4567 89 3.14 1,000,000 naive naïve café "
    "Straße привет мир γειά σου κόσμε שלום عالم 你好 世界 こんにちは 안녕하세요 हिन्दी ไทย "
    "ſ 'ſ x'ſ ǅ Ⅷ ½ ٣٤٥ ０１２ é e\u0301 👍 👩‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 def f(x): return x**2 # -> /* */ <html> {} [] "
    "<|endoftext|> <|im_start|> <tool> </tool> word tooltool ▁ Ġ \u00ad \ufeff ＡＢＣ ﬁ ㎏ Å Ω İI ıi "
    "<s> </s> <unk> [UNK] [CLS] [SEP] [MASK] <0x41> ▁▁ ## ##ing playing unbelievable tokenization "
    "for(int i=0;i<n;++i) self.value != None; std::vector<T> \u1100\u1161\u11a8 각 q\u0323\u0307 "
    "\u0344 \u0f73 \U0001d15e ½ ² ₂ ™ ①"
).split(" ")
GAPS = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "\u180e", "\u0085",
        "\u2028", "\u200b", "\u200d", "", "", ".", ", ", "!?\n", "\x00", "\x1f", "\x7f", "_", "-", " '", "\u0301"]
EDGES = ["", " ", "\n", "a", " a", "  a", "a ", "a  ", "\r\n\r\n", "'", "''s", " 's", "\x00", "\u0301",
         "\u0301a", " \u0301", "\ufffd", "\U0010ffff", "▁", "▁a", " ▁", "a▁", "<0x0A>", "<unk>"]
BLOCKS = [(0, 0x7F)] * 4 + [
    (0x80, 0x52F), (0x370, 0x3FF), (0x590, 0x8FF), (0x900, 0xDFF), (0xE00, 0x12FF), (0x1E00, 0x23FF),
    (0x2500, 0x2BFF), (0x3000, 0x33FF), (0x4E00, 0x9FEF), (0xAC00, 0xD7A3), (0xF900, 0xFFFD),
    (0x10000, 0x11FFF), (0x16000, 0x1D7FF), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1FAFF), (0x20000, 0x33FFF),
    (0xE0000, 0x10FFFF), (0, 0xD7FF)]
CODE = ["if (x == 0) {\n\treturn y;\n}\n", "    def __init__(self):\n        pass\n", "a[i] += b->c(d, &e);",
        "SELECT * FROM t WHERE id IN (1, 2, 3);", "<div class=\"x\">&nbsp;</div>\n", "x := make([]int, 10)\n\n\n"]


def character(rng):
    low, high = rng.choice(BLOCKS)
    return chr(rng.randint(low, high))


def text(rng, words):
    kind = rng.random()
    if kind < 0.5:
        return "".join(rng.choice(words) + rng.choice(GAPS) for _ in range(rng.randint(1, 9)))
    if kind < 0.6:
        return "".join(rng.choice(GAPS) for _ in range(rng.randint(1, 20)))
    if kind < 0.75:
        return "".join(character(rng) for _ in range(rng.randint(1, 16)))
    if kind < 0.8:
        return "".join(rng.choice(CODE) for _ in range(rng.randint(1, 3)))
    if kind < 0.9:
        return rng.randbytes(rng.randint(1, 24)).decode("utf-8", errors="replace")
    if kind < 0.95:  # letters with what combines with them
        return "".join(chr(rng.choice([0x61, 0x41, 0x65, 0x6F, 0x1100, 0x1161, 0x11A8, 0xAC00, 0x915, 0x9C7]))
                       + "".join(chr(rng.randint(0x300, 0x345)) for _ in range(rng.randint(0, 3)))
                       for _ in range(rng.randint(1, 6)))
    return rng.choice("ab ") * rng.randint(1, 120) + rng.choice(words)


def texts(seed, count, words=()):
    rng = random.Random(seed)
    pool = WORDS + list(words)
    return EDGES + [text(rng, pool) for _ in range(count)]


def every_character(width):
    """All of Unicode, `width` code points in a text, between letters."""
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for i in range(0, len(points), width):
        yield "a" + "a".join(map(chr, points[i:i + width])) + " " + "".join(map(chr, points[i:i + width]))
