#include "rollout_worker/serving/vllm_metrics.h"

#include <vector>

namespace rollcall {
namespace {

const std::vector<double>& FirstTokenBuckets() {
  static const std::vector<double> kBuckets = {.001, .005, .01, .02, .04, .06, .08, .1,
                                               .25,  .5,   .75, 1,   2.5, 5,   7.5, 10,
                                               20,   40,   80,  160, 640, 2560};
  return kBuckets;
}

const std::vector<double>& TokenBuckets() {
  static const std::vector<double> kBuckets = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                               .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
  return kBuckets;
}

const std::vector<double>& RequestBuckets() {
  static const std::vector<double> kBuckets = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                               30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
  return kBuckets;
}

// 1, 2, 5, 10, 20, 50 ... up to `max`.
std::vector<double> LengthBuckets(int64_t max) {
  std::vector<double> buckets;
  for (int64_t power = 1; power <= max; power *= 10) {
    for (const int64_t step : {1, 2, 5}) {
      if (step * power <= max) buckets.push_back(static_cast<double>(step * power));
    }
  }
  return buckets;
}

struct Maker {
  MetricsRegistry& registry;
  Labels labels;
  Counter& MakeCounter(const char* name, const char* help) {
    return registry.GetCounter(name, help, labels);
  }
  Counter& MakeFinished(const char* reason) {
    Labels with_reason = labels;
    with_reason["finished_reason"] = reason;
    return registry.GetCounter("vllm:request_success_total", "Finished requests, by reason",
                               with_reason);
  }
  Histogram& MakeHistogram(const char* name, const char* help, const std::vector<double>& buckets) {
    return registry.GetHistogram(name, help, buckets, labels);
  }
};

Maker MakerOf(MetricsRegistry& registry, const std::string& model_name) {
  return {registry, {{"model_name", model_name}, {"engine", "0"}}};
}

void ObserveInterval(Histogram& histogram, absl::Time from, absl::Time to) {
  if (from == absl::InfinitePast() || to < from) return;
  histogram.Observe(absl::ToDoubleSeconds(to - from));
}

}  // namespace

VllmMetrics::VllmMetrics(MetricsRegistry& registry, const std::string& model_name,
                         int64_t max_model_len)
    : prefix_queries_(MakerOf(registry, model_name)
                          .MakeCounter("vllm:prefix_cache_queries_total",
                                       "Prompt tokens looked up in the prefix cache")),
      prefix_hits_(MakerOf(registry, model_name)
                       .MakeCounter("vllm:prefix_cache_hits_total",
                                    "Prompt tokens found in the prefix cache")),
      prompt_tokens_(MakerOf(registry, model_name)
                         .MakeCounter("vllm:prompt_tokens_total", "Prompt tokens processed")),
      generation_tokens_(MakerOf(registry, model_name)
                             .MakeCounter("vllm:generation_tokens_total", "Tokens generated")),
      stopped_(MakerOf(registry, model_name).MakeFinished("stop")),
      cut_(MakerOf(registry, model_name).MakeFinished("length")),
      aborted_(MakerOf(registry, model_name).MakeFinished("abort")),
      request_prompt_tokens_(MakerOf(registry, model_name)
                                 .MakeHistogram("vllm:request_prompt_tokens",
                                                "Prompt tokens of a request",
                                                LengthBuckets(max_model_len))),
      request_generation_tokens_(MakerOf(registry, model_name)
                                     .MakeHistogram("vllm:request_generation_tokens",
                                                    "Tokens generated for a request",
                                                    LengthBuckets(max_model_len))),
      request_max_tokens_(MakerOf(registry, model_name)
                              .MakeHistogram("vllm:request_max_num_generation_tokens",
                                             "Most tokens that a request may get",
                                             LengthBuckets(max_model_len))),
      request_n_(MakerOf(registry, model_name)
                     .MakeHistogram("vllm:request_params_n", "The parameter n of a request",
                                    {1, 2, 5, 10, 20})),
      request_limit_(MakerOf(registry, model_name)
                         .MakeHistogram("vllm:request_params_max_tokens",
                                        "The parameter max_tokens of a request",
                                        LengthBuckets(max_model_len))),
      first_token_seconds_(MakerOf(registry, model_name)
                               .MakeHistogram("vllm:time_to_first_token_seconds",
                                              "From arrival to the first token",
                                              FirstTokenBuckets())),
      time_per_output_token_(MakerOf(registry, model_name)
                                 .MakeHistogram("vllm:time_per_output_token_seconds",
                                                "From one token to the next, older name",
                                                TokenBuckets())),
      inter_token_seconds_(MakerOf(registry, model_name)
                               .MakeHistogram("vllm:inter_token_latency_seconds",
                                              "From one token to the next", TokenBuckets())),
      e2e_seconds_(MakerOf(registry, model_name)
                       .MakeHistogram("vllm:e2e_request_latency_seconds",
                                      "From arrival to the last token", RequestBuckets())),
      queue_seconds_(MakerOf(registry, model_name)
                         .MakeHistogram("vllm:request_queue_time_seconds",
                                        "From the queue to the first step", RequestBuckets())),
      inference_seconds_(MakerOf(registry, model_name)
                             .MakeHistogram("vllm:request_inference_time_seconds",
                                            "From the first step to the last token",
                                            RequestBuckets())),
      prefill_seconds_(MakerOf(registry, model_name)
                           .MakeHistogram("vllm:request_prefill_time_seconds",
                                          "From the first step to the first token",
                                          RequestBuckets())),
      decode_seconds_(MakerOf(registry, model_name)
                          .MakeHistogram("vllm:request_decode_time_seconds",
                                         "From the first token to the last", RequestBuckets())) {}

void VllmMetrics::TokenAfter(double seconds) {
  time_per_output_token_.Observe(seconds);
  inter_token_seconds_.Observe(seconds);
}

void VllmMetrics::SampleFinished(const FinishedSample& sample) {
  (sample.end == CompletionEnd::kStop ? stopped_ : cut_).Increment();
  if (sample.is_first) {
    prompt_tokens_.Increment(static_cast<double>(sample.num_prompt_tokens));
    prefix_queries_.Increment(static_cast<double>(sample.num_prompt_tokens));
    prefix_hits_.Increment(static_cast<double>(sample.num_cached_tokens));
    request_n_.Observe(static_cast<double>(sample.num_samples));
    request_limit_.Observe(sample.max_tokens);
    ObserveInterval(first_token_seconds_, sample.arrival, sample.times.first_token);
  }
  generation_tokens_.Increment(static_cast<double>(sample.num_tokens));
  request_prompt_tokens_.Observe(static_cast<double>(sample.num_prompt_tokens));
  request_generation_tokens_.Observe(static_cast<double>(sample.num_tokens));
  request_max_tokens_.Observe(sample.max_tokens);
  ObserveInterval(e2e_seconds_, sample.arrival, sample.finished);
  ObserveInterval(queue_seconds_, sample.times.queued, sample.times.scheduled);
  ObserveInterval(inference_seconds_, sample.times.scheduled, sample.times.last_token);
  ObserveInterval(prefill_seconds_, sample.times.scheduled, sample.times.first_token);
  ObserveInterval(decode_seconds_, sample.times.first_token, sample.times.last_token);
}

}  // namespace rollcall
