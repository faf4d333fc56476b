"""What users would pick instead, for `./dev bench rollout`: transformers and llama.cpp on the same weights."""
import json
import statistics
import subprocess
import time

import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
# Long enough for any case here; a peer that hangs ends the bench.
TIMEOUT_S = 900


class Llama:
    """Programs built from llama.cpp's sources: see setup_llama in bench.sh."""

    def __init__(self, directory):
        self.rollout = f'{directory}/llama_rollout'
        self.batched_bench = f'{directory}/build/bin/llama-batched-bench'

    def work(self, gguf, work, threads, slots):
        """Useful tokens per second."""
        run = subprocess.run([self.rollout, 'run', gguf, work, str(threads), str(slots)], check=True,
                             capture_output=True, text=True, timeout=TIMEOUT_S)
        result = json.loads(run.stdout)
        return result['tokens'] / result['seconds']

    def logits(self, gguf, work):
        run = subprocess.run([self.rollout, 'logits', gguf, work, '1'], check=True, capture_output=True, text=True,
                             timeout=TIMEOUT_S)
        return torch.tensor(json.loads(run.stdout))

    def batched(self, gguf, threads, sequences, prompt_tokens, new_tokens):
        """llama-batched-bench: {'prefill': tokens/s, 'decode': tokens/s}."""
        # Cells come in multiples of 256 a sequence.
        context = sequences * -(-(prompt_tokens + new_tokens) // 256) * 256
        # Its log may lose the last lines when the program ends, so the case is run more than once.
        for repeats in (2, 4, 16):
            run = subprocess.run(
                [self.batched_bench, '-m', gguf, '-c', str(context), '-b', '2048', '-ub', '512', '-npp', str(prompt_tokens),
                 '-ntg', ','.join([str(new_tokens)] * repeats), '-npl', str(sequences), '-t', str(threads), '-tb',
                 str(threads), '--output-format', 'jsonl'], check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
            lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{')]
            if lines:
                return {'prefill': statistics.median(line['speed_pp'] for line in lines),
                        'decode': statistics.median(line['speed_tg'] for line in lines)}
        raise RuntimeError(f'{self.batched_bench} printed no result')


class Transformers:
    """One model in one precision, in this process."""

    def __init__(self, path, precision, threads):
        torch.set_num_threads(threads)
        dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16}[precision]
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
        # Lengths are the work's, so no token may end a completion.
        self.model.generation_config = self.sampling()

    @staticmethod
    def sampling(**more):
        return transformers.GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0, **more)

    @torch.no_grad()
    def logits(self, prompt):
        return self.model(torch.tensor([prompt])).logits[0, -1].float()

    @torch.inference_mode()
    def static(self, work, batch_size):
        """Useful tokens per second of `generate` over batches in the order of the work, padded on the left; each runs
        until its longest completion is done."""
        begin = time.perf_counter()
        for start in range(0, len(work), batch_size):
            batch = work[start:start + batch_size]
            width = max(len(prompt) for _, prompt in batch)
            new = max(count for count, _ in batch)
            ids = torch.tensor([[0] * (width - len(prompt)) + prompt for _, prompt in batch])
            mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for _, prompt in batch])
            out = self.model.generate(ids, attention_mask=mask,
                                      generation_config=self.sampling(min_new_tokens=new, max_new_tokens=new))
            assert out.shape == (len(batch), width + new)
        return sum(count for count, _ in work) / (time.perf_counter() - begin)

    def continuous(self, work):
        """Useful tokens per second of the manager under `generate_batch`, which alone takes a length per request."""
        sizes = transformers.generation.ContinuousBatchingConfig(num_blocks=300, max_batch_tokens=1024)
        with self.model.continuous_batching_context_manager(
                generation_config=self.sampling(max_new_tokens=256, eos_token_id=-1), timeout=5,
                continuous_batching_config=sizes) as manager:
            begin = time.perf_counter()
            for number, (count, prompt) in enumerate(work):
                manager.add_request(prompt, request_id=str(number), max_new_tokens=count, eos_token_id=-1)
            wanted = {str(number): count for number, (count, _) in enumerate(work)}
            while wanted:
                result = manager.get_result(timeout=TIMEOUT_S)
                if result is None or result.error is not None:
                    raise RuntimeError(f'continuous batching failed: {result and result.error}')
                if result.is_finished():
                    assert len(result.generated_tokens) == wanted.pop(result.request_id)
            return sum(count for count, _ in work) / (time.perf_counter() - begin)
