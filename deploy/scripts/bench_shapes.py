"""Sizes of the Llama models that benchmarks make, as flags of `rollcall init-model`."""
SHAPES = {
    '3M': {'hidden-size': 256, 'layers': 4, 'heads': 4, 'kv-heads': 2, 'intermediate-size': 768, 'vocab-size': 512},
    '30M': {'hidden-size': 512, 'layers': 8, 'heads': 8, 'kv-heads': 4, 'intermediate-size': 1536, 'vocab-size': 8192},
}
