#!/usr/bin/env python3
"""./dev bench tokenizer: encoding and decoding beside the `tokenizers` library, one thread each.

Texts of one megabyte: licences and manuals (prose), the Python library (code), words of ten scripts
drawn with a fixed seed. Each kind of tokenizer is trained on all of them. Seconds are processor time, so
that other work on the machine does not count."""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ['TOKENIZERS_PARALLELISM'] = 'false'
os.environ['RAYON_NUM_THREADS'] = '1'

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

from bench_report import report  # noqa: E402

SIZE = 1_000_000
DOCUMENT = 16 << 10
ROUNDS = 5
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SCRIPTS = [(0x61, 0x7A), (0x430, 0x44F), (0x3B1, 0x3C9), (0x5D0, 0x5EA), (0x627, 0x64A), (0x904, 0x939),
           (0xE01, 0xE2E), (0x3042, 0x3093), (0x4E00, 0x6E00), (0xAC00, 0xB800)]


def files(*patterns):
    text = []
    size = 0
    for root, pattern in patterns:
        for path in sorted(pathlib.Path(root).glob(pattern)):
            if path.is_file() and size < SIZE:
                text.append(path.read_text(encoding='utf-8', errors='replace'))
                size += len(text[-1])
    return ''.join(text)


def multilingual():
    rng = random.Random(1)
    words = {}
    for script in SCRIPTS:
        words[script] = [''.join(chr(rng.randint(*script)) for _ in range(rng.randint(1, 8))) for _ in range(4000)]
    lines = []
    while sum(map(len, lines)) < SIZE // 2:
        pool = words[rng.choice(SCRIPTS)]
        gap = '' if pool is words[SCRIPTS[8]] else ' '
        lines.append(gap.join(pool[int(4000 * rng.random() ** 3)] for _ in range(rng.randint(3, 25))) + rng.choice(['.\n', '。\n', '!\n']))
    return ''.join(lines)


def cut(text):
    return text.encode('utf-8')[:SIZE].decode('utf-8', errors='ignore')


def texts():
    stdlib = f'/usr/lib/python{sys.version_info.major}.{sys.version_info.minor}'
    prose = files(('/usr/share/common-licenses', '*'), ('/usr/share/perl', '**/*.pod'), ('/usr/share/doc', '*/copyright'))
    code = files((stdlib, '*.py'), (stdlib, '*/*.py'), ('/usr/include', '*.h'))
    return {'prose': cut(prose), 'code': cut(code), 'multilingual': cut(multilingual())}


def kinds():
    def byte_level(pre_tokenizer):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer, trainers.BpeTrainer, {'initial_alphabet': pre_tokenizers.ByteLevel.alphabet()}
    yield 'gpt2', byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    yield 'llama3', byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), 'isolated'), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    tokenizer = Tokenizer(models.BPE(unk_token='<unk>', fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(' ', 1, 0)])
    yield 'llama2', (tokenizer, trainers.BpeTrainer,
                     {'special_tokens': ['<unk>'] + [f'<0x{b:02X}>' for b in range(256)], 'limit_alphabet': 3000})
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    yield 'unigram', (tokenizer, trainers.UnigramTrainer, {'special_tokens': ['<unk>'], 'unk_token': '<unk>'})
    tokenizer = Tokenizer(models.WordPiece(unk_token='[UNK]'))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    yield 'bert', (tokenizer, trainers.WordPieceTrainer, {'special_tokens': ['[UNK]'], 'limit_alphabet': 3000})


def train(directory, all_texts):
    lines = [line for text in all_texts.values() for line in text.splitlines(keepends=True)]
    for name, (tokenizer, trainer, options) in kinds():
        path = directory / name
        path.mkdir()
        tokenizer.train_from_iterator(lines, trainer(vocab_size=32000, show_progress=False, **options))
        if name == 'llama2':  # how such files have it: no words, the spaces are in the text
            tokenizer.pre_tokenizer = None
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend('▁'), normalizers.Replace(' ', '▁')])
        tokenizer.save(str(path / 'tokenizer.json'))
        yield name, path


def documents(lines):
    """As tests/bench/tokenizer_bench.cc cuts them."""
    out = []
    size = DOCUMENT
    for line in lines:
        if size >= DOCUMENT:
            out.append([])
            size = 0
        out[-1].append(line)
        size += len(line.encode('utf-8'))
    return [''.join(document) for document in out]


def best(size, work):
    speeds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        result = work()
        speeds.append(size / 1e6 / (time.process_time() - started))
    return max(speeds), result


def theirs(path, text):
    tokenizer = Tokenizer.from_file(str(path / 'tokenizer.json'))
    size = len(text.encode('utf-8'))
    lines = [line + '\n' for line in text.split('\n')]
    lines[-1] = lines[-1][:-1]
    lines = [line for line in lines if line]
    parts = documents(lines)
    by_line, _ = best(size, lambda: tokenizer.encode_batch_fast(lines, add_special_tokens=False))
    by_document, encoded = best(size, lambda: [tokenizer.encode_batch_fast([d], add_special_tokens=False)[0] for d in parts])
    offsets, _ = best(size, lambda: [tokenizer.encode(d, add_special_tokens=False) for d in parts])
    ids = [e.ids for e in encoded]
    decode, _ = best(size, lambda: [tokenizer.decode(i, skip_special_tokens=False) for i in ids])
    return {'documents': by_document, 'lines': by_line, 'offsets': offsets, 'decode': decode, 'tokens': sum(map(len, ids))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--bin', required=True)
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    figures = (('documents', 'encode, 16 KiB at a time'), ('lines', 'encode, line by line'),
               ('offsets', 'encode with offsets'), ('decode', 'decode'))
    rows = []
    with tempfile.TemporaryDirectory(prefix='rollcall-bench-') as work:
        work = pathlib.Path(work)
        all_texts = texts()
        for name, text in all_texts.items():
            (work / f'{name}.txt').write_text(text, encoding='utf-8', newline='')
        for kind, path in train(work, all_texts):
            for name, text in all_texts.items():
                output = subprocess.run([f'{options.bin}/tokenizer_bench', path, work / f'{name}.txt'], check=True,
                                        capture_output=True, text=True).stdout
                ours, peer = json.loads(output), theirs(path, text)
                if ours['tokens'] != peer['tokens']:
                    sys.exit(f'{kind}, {name}: {ours["tokens"]} tokens here, {peer["tokens"]} there')
                for key, figure in figures:
                    rows.append({'case': f'{kind}, {name}', 'figure': figure, 'unit': 'MB/s', 'value': round(ours[key], 3),
                                 'peer': 'tokenizers', 'peer_value': round(peer[key], 3),
                                 'ratio': round(ours[key] / peer[key], 2)})
    report('tokenizer', rows, options.json)


if __name__ == '__main__':
    main()
