#include "rollout_worker/serving_flags.h"

#include <random>

#include <CLI/CLI.hpp>

namespace rollcall {

void AddServingFlags(CLI::App& app, ServingFlags* flags) {
  app.add_option("--model", flags->model_directory,
                 "Serve this model directory over HTTP and gRPC, without a coordinator");
  app.add_option("--served-model-name", flags->served_model_name,
                 "Name that requests give; by default the last part of the directory")
      ->needs("--model");
  app.add_option("--http", flags->http_listen,
                 "host:port of the OpenAI-compatible API; port 0 picks a free one; a host that is "
                 "not loopback needs TLS [127.0.0.1:8000 with --model, else none]");
  app.add_option("--api-key-file", flags->api_key_file,
                 "File of keys, one a line; HTTP requests must carry one as a bearer token");
  app.add_option("--max-open-samples", flags->max_open_samples,
                 "Completions that run or wait; more are answered 429")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--http-max-connections", flags->max_connections,
                 "HTTP connections; more are answered 503")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--request-timeout", flags->request_timeout_seconds,
                 "Longest time for one request, in seconds")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  app.add_flag("--vllm-metrics", flags->exports_vllm_metrics,
               "Export the metrics under vLLM's names as well")
      ->needs("--model");
  app.add_flag("--announce", flags->announces,
               "Print the address and an example of its use once the process serves");
}

uint64_t RandomSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

GeneratorOptions ToGeneratorOptions(const ServingFlags& flags) {
  return {.max_open_samples = flags.max_open_samples};
}

HttpEndpointOptions ToEndpointOptions(const ServingFlags& flags, const TlsOptions& tls) {
  return {
      .service = {.request_timeout = absl::Seconds(flags.request_timeout_seconds),
                  .seed = RandomSeed()},
      .server = {.listen_address = flags.http_listen.empty() ? "127.0.0.1:8000" : flags.http_listen,
                 .tls = tls,
                 .api_key_file = flags.api_key_file,
                 // Requests are read and tokenised on them; one alone would let a long prompt
                 // hold up every stream.
                 .num_threads = 2,
                 .max_connections = flags.max_connections}};
}

}  // namespace rollcall
