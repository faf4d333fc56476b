"""Trains small byte-level BPE tokenizers with the reference library and writes, per family, a
directory with tokenizer.json and cases.jsonl: {"text", "ids", "ids_as_text"}."""

import json
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

WORDS = (
    "the of and to in is that it was for on are as with his they at be this from have or one had by "
    "hello world don't I'm we'll they've IT'S you'RE 123 4567 89 3.14 1,000,000 naive naïve café "
    "Straße привет мир γειά σου κόσμε שלום عالم 你好 世界 こんにちは 안녕하세요 हिन्दी ไทย "
    "ſ 'ſ x'ſ ǅ Ⅷ ½ ٣٤٥ ０１２ é e\u0301 👍 👩‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 def f(x): return x**2 # -> /* */ <html> {} [] "
    "<|endoftext|> <|im_start|> <tool> </tool> word tooltool ▁ Ġ \u00ad \ufeff"
).split(" ")
GAPS = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "\u180e", "\u0085",
        "\u2028", "\u200b", "\u200d", "", "", ".", ", ", "!?\n", "\x00", "\x1f", "\x7f", "_", "-"]


def texts(rng, count):
    out = ["", " ", "\n", "a", " a", "  a", "a ", "a  ", "\r\n\r\n", "'", "''s", " 's"]
    for _ in range(count):
        kind = rng.random()
        if kind < 0.6:
            out.append("".join(rng.choice(WORDS) + rng.choice(GAPS) for _ in range(rng.randint(1, 12))))
        elif kind < 0.75:
            out.append("".join(rng.choice(GAPS) for _ in range(rng.randint(1, 20))))
        elif kind < 0.9:
            out.append("".join(chr(rng.choice([rng.randint(0, 0x7F), rng.randint(0x80, 0x52F),
                                               rng.randint(0x4E00, 0x9FEF), rng.randint(0xAC00, 0xD7A3),
                                               rng.randint(0x1F300, 0x1F64F)]))
                               for _ in range(rng.randint(1, 30))))
        else:
            out.append(rng.choice("ab ") * rng.randint(1, 200) + rng.choice(WORDS))
    return out


def split(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def families():
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    yield "gpt2", gpt2, False
    yield "gpt2_prefix_space", pre_tokenizers.ByteLevel(add_prefix_space=True), False
    yield "llama3", split(LLAMA3), True
    yield "qwen", split(QWEN), False
    yield "no_regex", pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), False


def main(directory):
    for number, (name, pre_tokenizer, ignore_merges) in enumerate(families()):
        rng = random.Random(number)
        tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=900, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        tokenizer.train_from_iterator([t for t in texts(rng, 1500) if "<" not in t and "[S]" not in t], trainer)
        tokenizer.add_special_tokens([
            "<|im_start|>", AddedToken("<|im", special=True, normalized=False),
            AddedToken("[S]", special=True, normalized=False, lstrip=True, rstrip=True)])
        tokenizer.add_tokens([
            AddedToken("<tool>", normalized=True, rstrip=True), AddedToken("</tool>", lstrip=True),
            AddedToken("tool", single_word=True), AddedToken("toolt", normalized=False)])
        WORDS.extend(["[S]", "<|im_start", "[S][S]", "tool", "_tool", "tool."])
        path = os.path.join(directory, name)
        os.makedirs(path)
        tokenizer.save(os.path.join(path, "tokenizer.json"))
        if number % 2:  # merges as "left right" strings, as old files have them
            file = os.path.join(path, "tokenizer.json")
            with open(file, encoding="utf-8") as f:
                content = json.load(f)
            content["model"]["merges"] = [
                m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
            with open(file, "w", encoding="utf-8") as f:
                json.dump(content, f, ensure_ascii=False)
            tokenizer = Tokenizer.from_file(file)
        cases = texts(rng, 1200)
        parsed = [tokenizer.encode(t, add_special_tokens=False).ids for t in cases]
        tokenizer.encode_special_tokens = True
        as_text = [tokenizer.encode(t, add_special_tokens=False).ids for t in cases]
        with open(os.path.join(path, "cases.jsonl"), "w", encoding="utf-8") as f:
            for text, ids, plain in zip(cases, parsed, as_text):
                f.write(json.dumps({"text": text, "ids": ids, "ids_as_text": plain}) + "\n")


def check_bytes(file):
    """Loads our own byte tokenizer and checks it against the bytes themselves."""
    tokenizer = Tokenizer.from_file(file)
    for text in texts(random.Random(99), 300):
        if "<|endoftext|>" in text:
            continue
        ids = tokenizer.encode(text).ids
        assert ids == list(text.encode("utf-8")), (text, ids)
        assert tokenizer.decode(ids) == text, text
    assert tokenizer.encode("a<|endoftext|>b").ids == [97, 256, 98]
    assert tokenizer.get_vocab_size() == 257


if __name__ == "__main__":
    main(sys.argv[2]) if sys.argv[1] == "train" else check_bytes(sys.argv[2])
