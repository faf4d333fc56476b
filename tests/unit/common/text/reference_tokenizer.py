"""Trains small tokenizers with the reference library and writes, per family, a directory with
tokenizer.json and cases.jsonl. A case is [text, ids, ids_as_text or null, byte ranges (flat) or null,
decoded, decoded without special tokens, ids with the post-processor]."""

import json
import os
import re
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

import reference_corpus

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# Of DeepSeek, OpenAI's o200k and BigCode: several splits, look-behind free, all through the regex engine.
CJK = r"[一-龥぀-ゟ゠-ヿ]+"
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{b:02X}>" for b in range(256)]


def split(*patterns, behavior="isolated", invert=False):
    return [pre_tokenizers.Split(Regex(p), behavior=behavior, invert=invert) for p in patterns]


def byte_level(steps):
    return pre_tokenizers.Sequence(
        steps + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def special(content, **options):
    return AddedToken(content, special=True, normalized=False, **options)


def corpus(seed):
    return [t for t in reference_corpus.texts(seed, 1500) if "<" not in t and "[" not in t]


def train(tokenizer, kind, seed, **options):
    options.setdefault("special_tokens", [])
    options.setdefault("vocab_size", 900)
    trainer = {"bpe": trainers.BpeTrainer, "unigram": trainers.UnigramTrainer,
               "wordpiece": trainers.WordPieceTrainer, "wordlevel": trainers.WordLevelTrainer}[kind](
                   show_progress=False, **options)
    tokenizer.train_from_iterator(corpus(seed), trainer)
    return tokenizer


def add_some_tokens(tokenizer):
    tokenizer.add_special_tokens([
        special("<|im_start|>"), special("<|im"), special("[S]", lstrip=True, rstrip=True)])
    tokenizer.add_tokens([
        AddedToken("<tool>", normalized=True, rstrip=True), AddedToken("</tool>", lstrip=True),
        AddedToken("tool", single_word=True), AddedToken("toolt", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A [S]", pair="$A $B",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("<|im_start|>", "[S]")])
    return tokenizer


def changed(tokenizer, change):
    content = json.loads(tokenizer.to_str())
    change(content)
    return Tokenizer.from_str(json.dumps(content))


def old_merges(content):
    """Merges as "left right", as old files have them."""
    content["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]


def byte_level_family(pre_tokenizer, number, normalizer=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    train(tokenizer, "bpe", number, min_frequency=2, special_tokens=["<|endoftext|>"],
          initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return add_some_tokens(tokenizer)


def families_byte_level():
    yield "gpt2", byte_level_family(pre_tokenizers.ByteLevel(add_prefix_space=False), 0)
    yield "gpt2_prefix_space", changed(byte_level_family(pre_tokenizers.ByteLevel(add_prefix_space=True), 1), old_merges)
    yield "llama3", byte_level_family(byte_level(split(LLAMA3)), 2, ignore_merges=True)
    yield "qwen", byte_level_family(byte_level(split(QWEN)), 3, normalizer=normalizers.NFC())
    yield "no_regex", byte_level_family(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), 4)


def families_byte_level_more():
    yield "splits", byte_level_family(byte_level(split(r"\p{N}{1,3}", CJK, QWEN)), 5)
    yield "o200k", byte_level_family(byte_level(split(O200K)), 6)
    yield "digits", byte_level_family(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]), 7)
    # Not all bytes have a token, as when the alphabet is not given.
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    yield "unknown_bytes", add_some_tokens(train(tokenizer, "bpe", 8, special_tokens=["<unk>"], limit_alphabet=60))
    # CLIP: the end of a word is part of its last token, case is lost.
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split(
        r"<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", behavior="removed",
        invert=True) + [pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")])
    yield "clip", add_some_tokens(train(
        tokenizer, "bpe", 9, special_tokens=["<|endoftext|>"], end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))


def with_byte_tokens(content):
    vocab = content["model"]["vocab"]
    content["added_tokens"] = [t for t in content["added_tokens"] if t["id"] < 3]
    if isinstance(vocab, list):
        content["model"]["vocab"] = vocab[:3] + [[b, -30.0] for b in BYTES] + vocab[3:]
    else:
        moved = {t: i if i < 3 else i + 256 for t, i in vocab.items()}
        content["model"]["vocab"] = moved | {b: 3 + i for i, b in enumerate(BYTES)}
    content["model"]["byte_fallback"] = True


SPECIALS = ["<unk>", "<s>", "</s>"]
LLAMA_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def sentencepiece_bpe(number, fallback=True, words=True, limit=150, **model):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, **model))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace() if words else pre_tokenizers.FixedLength(40)
    tokenizer.normalizer = None if words else normalizers.Replace(" ", "▁")
    train(tokenizer, "bpe", number, special_tokens=SPECIALS, limit_alphabet=limit)
    return changed(tokenizer, with_byte_tokens) if fallback else tokenizer


def families_sentencepiece():
    tokenizer = sentencepiece_bpe(10)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(LLAMA_DECODER + [decoders.Strip(" ", 1, 0)])
    yield "llama2", add_some_tokens(tokenizer)
    tokenizer = sentencepiece_bpe(11)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(LLAMA_DECODER + [decoders.Strip(" ", 1, 0)])
    yield "mistral", add_some_tokens(tokenizer)
    tokenizer = sentencepiece_bpe(12)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(LLAMA_DECODER)
    yield "gemma", add_some_tokens(tokenizer)
    # Merges reach over spaces; unknown characters are fused.
    tokenizer = sentencepiece_bpe(13, fallback=False, words=False, limit=60)
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Metaspace()
    yield "across_words", add_some_tokens(tokenizer)
    tokenizer = sentencepiece_bpe(14, fallback=False, limit=60)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.decoder = decoders.Metaspace()
    yield "metaspace", add_some_tokens(changed(tokenizer, lambda c: c["model"].update(fuse_unk=False)))


def charsmap():
    """The rules nmt_nfkc, out of a model that sentencepiece trains."""
    import io
    import sentencepiece
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello world", "the quick brown fox"] * 20), model_writer=model, vocab_size=30,
        hard_vocab_limit=False, minloglevel=3)
    fields = dict(wire_fields(model.getvalue()))
    return dict(wire_fields(fields[3]))[2]  # ModelProto.normalizer_spec.precompiled_charsmap


def wire_fields(data):
    def varint(at):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value, at
    at = 0
    while at < len(data):
        key, at = varint(at)
        if key & 7 == 2:
            size, at = varint(at)
            yield key >> 3, data[at:at + size]
            at += size
        elif key & 7 == 0:
            value, at = varint(at)
            yield key >> 3, value
        else:
            at += {1: 8, 5: 4}[key & 7]


def unigram(number, normalizer, pre_tokenizer):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Metaspace()
    return train(tokenizer, "unigram", number, special_tokens=SPECIALS, unk_token="<unk>", vocab_size=6000)


def families_unigram():
    rules = normalizers.Precompiled(charsmap())
    t5 = unigram(20, normalizers.Sequence([rules, normalizers.Replace(Regex(" {2,}"), " ")]), pre_tokenizers.Metaspace())
    yield "t5", add_some_tokens(t5)
    xlnet = unigram(21, normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(), normalizers.StripAccents(),
        normalizers.Lowercase()]), pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]))
    yield "xlnet", add_some_tokens(xlnet)
    fallback = changed(unigram(22, normalizers.Nmt(), pre_tokenizers.Metaspace(split=False)), with_byte_tokens)
    fallback.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    yield "unigram_bytes", add_some_tokens(fallback)


BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_piece(number, normalizer, pre_tokenizer, **options):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=30))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.WordPiece(**options)
    train(tokenizer, "wordpiece", number, special_tokens=BERT_SPECIALS)
    return add_some_tokens(tokenizer)


def families_words():
    bert = word_piece(30, normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer())
    bert.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    yield "bert_uncased", bert
    yield "bert_cased", word_piece(31, normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer(),
                                   cleanup=False)
    yield "word_piece_spaces", word_piece(
        32, normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]),
        pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(), pre_tokenizers.Punctuation("contiguous")]))
    levels = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    levels.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.CharDelimiterSplit("a"), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("removed")])
    train(levels, "wordlevel", 33, special_tokens=BERT_SPECIALS)
    yield "word_level", add_some_tokens(levels)
    # As subword-nmt has it, and its mirror image.
    suffixed = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
    suffixed.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    suffixed.decoder = decoders.BPEDecoder()
    train(suffixed, "bpe", 34, special_tokens=BERT_SPECIALS, end_of_word_suffix="</w>", limit_alphabet=80)
    yield "suffix", add_some_tokens(suffixed)
    prefixed = Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"))
    prefixed.pre_tokenizer = pre_tokenizers.Sequence(split(r"\p{Lu}", behavior="merged_with_next"))
    prefixed.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Strip(right=False)])
    prefixed.decoder = decoders.WordPiece()
    train(prefixed, "bpe", 35, special_tokens=BERT_SPECIALS, continuing_subword_prefix="##", limit_alphabet=80)
    yield "prefix", add_some_tokens(prefixed)


FAMILIES = {name: globals()["families_" + name]
            for name in ("byte_level", "byte_level_more", "sentencepiece", "unigram", "words")}


def as_text_reference(file):
    """Encodes with special tokens as text. The library would still make those of the vocabulary from
    text that is the same after normalization; here the vocabulary has them under other names."""
    with open(file, encoding="utf-8") as f:
        content = json.load(f)
    specials = {t["content"]: i for i, t in enumerate(content["added_tokens"]) if t["special"]}
    hidden = lambda t: f"\U0010fff0{specials[t]}" if t in specials else t
    model = content["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [[hidden(t), score] for t, score in model["vocab"]]
    else:
        model["vocab"] = {hidden(t): i for t, i in model["vocab"].items()}
    if model.get("unk_token"):
        model["unk_token"] = hidden(model["unk_token"])
    ids = {t["content"]: t["id"] for t in content["added_tokens"]}
    other = Tokenizer.from_str(json.dumps(content))
    other.encode_special_tokens = True
    moved = {other.token_to_id(t): i for t, i in ids.items()}
    return lambda text: [moved.get(i, i) for i in other.encode(text, add_special_tokens=False).ids]


def byte_ranges(text, offsets):
    if text.isascii():
        return [x for pair in offsets for x in pair]
    starts = [0]
    for c in text:
        starts.append(starts[-1] + len(c.encode("utf-8")))
    return [starts[x] for pair in offsets for x in pair]


def cases(file, inputs):
    tokenizer = Tokenizer.from_file(file)  # reading scores rounds them
    as_text = as_text_reference(file)
    rules = '"Precompiled"' in tokenizer.to_str()
    for number, (text, encoding) in enumerate(zip(inputs, tokenizer.encode_batch(inputs, add_special_tokens=False))):
        ids = encoding.ids
        decodable = len(ids) > 0  # BPEDecoder does not survive nothing
        yield [text, ids, as_text(text) if number % 4 == 0 else None,
               # Where its rules remove a character at the beginning, the ranges there are shifted.
               None if rules and re.search("[\x00-\x1f\x7f-\x9f]", text) else byte_ranges(text, encoding.offsets),
               tokenizer.decode(ids, skip_special_tokens=False) if decodable else "",
               tokenizer.decode(ids, skip_special_tokens=True) if decodable else "",
               tokenizer.encode(text).ids if number % 16 == 0 else None]


def main(group, directory, count):
    inputs = reference_corpus.texts(
        77, count, ["[S]", "<|im_start", "[S][S]", "tool", "_tool", "tool.", "Tool", "<TOOL>"])
    for name, tokenizer in FAMILIES[group]():
        path = os.path.join(directory, name)
        os.makedirs(path)
        file = os.path.join(path, "tokenizer.json")
        tokenizer.save(file)
        with open(os.path.join(path, "cases.jsonl"), "w", encoding="utf-8") as f:
            for case in cases(file, inputs):
                f.write(json.dumps(case) + "\n")


def every_character(group, directory, names):
    inputs = list(reference_corpus.every_character(64))
    for name, tokenizer in FAMILIES[group]():
        if name not in names:
            continue
        path = os.path.join(directory, name)
        os.makedirs(path)
        file = os.path.join(path, "tokenizer.json")
        tokenizer.save(file)
        tokenizer = Tokenizer.from_file(file)
        with open(os.path.join(path, "cases.jsonl"), "w", encoding="utf-8") as f:
            for text, encoding in zip(inputs, tokenizer.encode_batch(inputs, add_special_tokens=False)):
                f.write(json.dumps([text, encoding.ids]) + "\n")


def check_bytes(file):
    """Loads our own byte tokenizer and checks it against the bytes themselves."""
    tokenizer = Tokenizer.from_file(file)
    for text in reference_corpus.texts(99, 300):
        if "<|endoftext|>" in text:
            continue
        ids = tokenizer.encode(text).ids
        assert ids == list(text.encode("utf-8")), (text, ids)
        assert tokenizer.decode(ids) == text, text
    assert tokenizer.encode("a<|endoftext|>b").ids == [97, 256, 98]
    assert tokenizer.get_vocab_size() == 257


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if sys.argv[1] == "bytes":
        check_bytes(sys.argv[2])
    elif sys.argv[1] == "every":
        every_character(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        main(sys.argv[2], sys.argv[3], int(sys.argv[4]))
