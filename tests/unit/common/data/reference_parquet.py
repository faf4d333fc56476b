"""Writes Parquet files with pyarrow, and beside each the rows that Python reads from it as JSON."""
import datetime
import decimal
import json
import pathlib
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq

UTC = datetime.timezone.utc


def plain(value, kind):
    """A Python value in the form that a JSONL row would have."""
    if value is None:
        return None
    if pa.types.is_dictionary(kind):
        return plain(value, kind.value_type)
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        return {key: plain(item, kind.item_type) for key, item in value}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [plain(item, kind.value_type) for item in value]
    if pa.types.is_timestamp(kind):
        if kind.unit == 'ns':
            text = str(value.to_datetime64() if hasattr(value, 'to_datetime64') else value)
            return text
        return value.astimezone(UTC).isoformat() if kind.tz else value.isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value / datetime.timedelta(seconds=1)
    if isinstance(value, decimal.Decimal):
        return format(value, 'f')
    if isinstance(value, float) and (value != value or value in (float('inf'), float('-inf'))):
        return None
    return value


def write(directory, name, table, **options):
    pq.write_table(table, directory / f'{name}.parquet', **options)
    back = pq.read_table(directory / f'{name}.parquet')
    with open(directory / f'{name}.jsonl', 'w', encoding='utf-8') as out:
        for row in back.to_pylist():
            values = {field.name: plain(row[field.name], field.type) for field in back.schema}
            out.write(json.dumps(values, ensure_ascii=False) + '\n')


def every_type():
    moment = datetime.datetime(2024, 2, 29, 23, 59, 58, 250000)
    rows = 7

    def column(kind, values):
        return pa.array([values[i % len(values)] for i in range(rows)], kind)

    columns = {
        'null': column(pa.null(), [None]),
        'flag': column(pa.bool_(), [True, False, None]),
        'text': column(pa.string(), ['plain', '', None, 'äöü 漢字 🎉', 'quote " back \\ / \n\t\r\x01\x1f\x7f']),
        'large_text': column(pa.large_string(), ['x' * 1000, None, 'y']),
        'dictionary': column(pa.dictionary(pa.int32(), pa.string()), ['red', 'green', None]),
        'half': column(pa.float16(), [0.5, None, -2.0]),
        'single': column(pa.float32(), [0.1, None, 3e38, float('nan')]),
        'double': column(pa.float64(), [0.1, 1e300, None, float('inf'), -0.0, 5e-324]),
        'small_decimal': column(pa.decimal128(9, 2), [decimal.Decimal('12.30'), None,
                                                      decimal.Decimal('-0.05')]),
        'decimal': column(pa.decimal128(38, 10), [decimal.Decimal('1234567890123456789.0123456789'),
                                                  None]),
        'date': column(pa.date32(), [datetime.date(1969, 12, 31), datetime.date(1, 1, 1), None,
                                     datetime.date(9999, 12, 31)]),
        'seconds': column(pa.timestamp('s'), [moment.replace(microsecond=0), None]),
        'millis': column(pa.timestamp('ms'), [moment, None, datetime.datetime(1960, 1, 1)]),
        'micros': column(pa.timestamp('us'), [moment.replace(microsecond=1), None]),
        'zoned': column(pa.timestamp('us', tz='Europe/Berlin'), [moment.replace(tzinfo=UTC), None]),
        'time_millis': column(pa.time32('ms'), [datetime.time(1, 2, 3, 4000), None]),
        'time_micros': column(pa.time64('us'), [datetime.time(23, 59, 59, 999999), None,
                                                datetime.time(0, 0)]),
        'duration': column(pa.duration('ms'), [datetime.timedelta(seconds=1.5), None]),
        'list': column(pa.list_(pa.int64()), [[1, 2, 3], [], None, [None, -1]]),
        'large_list': column(pa.large_list(pa.string()), [['a'], None]),
        'fixed_list': column(pa.list_(pa.int32(), 2), [[1, 2], None, [3, None]]),
        'map': column(pa.map_(pa.string(), pa.int32()), [[('a', 1), ('b', None)], [], None]),
        'struct': column(pa.struct([('z', pa.string()), ('a', pa.list_(pa.struct([('x', pa.int8())])))]),
                         [{'z': 's', 'a': [{'x': 1}, None, {'x': None}]}, None, {'z': None, 'a': []}]),
        'a.b': column(pa.string(), ['a dot in the name']),
    }
    for bits in (8, 16, 32, 64):
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        columns[f'int{bits}'] = column(getattr(pa, f'int{bits}')(), [low, high, None, 0])
        columns[f'uint{bits}'] = column(getattr(pa, f'uint{bits}')(), [(1 << bits) - 1, None, 0])
    return pa.table(columns)


def conversations(count):
    rng = random.Random(7)
    rows = []
    for i in range(count):
        messages = [{'role': 'user', 'content': f'question {i} ' + 'é' * rng.randrange(50)},
                    {'role': 'assistant', 'content': 'answer ' * rng.randrange(20)}]
        if i % 3 == 0:
            messages[1] = {'role': 'assistant', 'content': None,
                           'tool_calls': [{'function': {'name': 'f', 'arguments': '{"a": 1}'}}]}
        rows.append({'messages': messages, 'reward_model': {'style': 'rule', 'ground_truth': str(i)},
                     'extra_info': {'index': i, 'split': 'train'}})
    return pa.Table.from_pylist(rows)


def nested(depth):
    kind, value = pa.int32(), 1
    for _ in range(depth):
        kind, value = pa.list_(kind), [value]
    return pa.table({'deep': pa.array([value, None], kind)})


def main():
    directory = pathlib.Path(sys.argv[1])
    write(directory, 'types', every_type())
    write(directory, 'types_v1', every_type().drop_columns(['duration']), version='1.0',
          data_page_version='2.0', use_dictionary=False)
    for codec in ('none', 'snappy', 'zstd', 'gzip', 'brotli', 'lz4'):
        write(directory, f'chat_{codec}', conversations(500), compression=codec, row_group_size=64)
    write(directory, 'encodings', pa.table({
        'delta': pa.array(range(5000), pa.int64()),
        'split': pa.array([i / 7 for i in range(5000)], pa.float64()),
        'prefix': pa.array([f'shared prefix {i:05d}' for i in range(5000)])}),
        use_dictionary=False, column_encoding={'delta': 'DELTA_BINARY_PACKED',
                                               'split': 'BYTE_STREAM_SPLIT',
                                               'prefix': 'DELTA_BYTE_ARRAY'})
    write(directory, 'nested', nested(20))
    write(directory, 'long_rows', pa.table({'text': ['x' * (1 << 20)] * 40}), row_group_size=40)
    # Files that are refused, each for one reason.
    refused = directory / 'refused'
    refused.mkdir()
    pq.write_table(pa.table({'ok': [1], 'image': [{'bytes': b'x', 'path': 'p'}]}), refused / 'binary.parquet')
    pq.write_table(pa.table({'m': pa.array([[(1, 2)]], pa.map_(pa.int32(), pa.int32()))}), refused / 'map.parquet')
    pq.write_table(nested(40), refused / 'deep.parquet')
    # Room for the list of one row: 17 MiB of text.
    pq.write_table(pa.table({'a': ['x', 'y' * (17 << 20)]}), refused / 'long.parquet')
    pq.write_table(pa.table({'a': pa.array([], pa.string())}), refused / 'empty.parquet')
    text = pa.array([b'fine', b'\xff\xfe'], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({'id': [1, 2], 'text': text}), refused / 'utf8.parquet')
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=['a', 'a']), refused / 'twice.parquet')
    dates = pa.array([0, 10**9], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({'day': dates}), refused / 'date.parquet')


if __name__ == '__main__':
    main()
