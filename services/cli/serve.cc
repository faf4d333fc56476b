#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>

#include "services/base/net/address.h"
#include "services/cli/verbs.h"
#include "services/model/weights/model_files.h"

namespace rollcall {
namespace {

struct ServeFlags {
  std::string directory;
  std::string host = "127.0.0.1";
  int port = 8000;
  std::string name;
  std::string api_key_file;
  int kv_cache_mib = 256;
  int max_sequences = 128;
  bool exports_vllm_metrics = false;
};

// Becomes the rollout worker, so that signals and the exit code are its own.
Status Serve(const Context& context, const ServeFlags& flags) {
  // Says what is wrong with a directory before anything is started.
  ROLLCALL_RETURN_IF_ERROR(CheckModelDirectory(flags.directory).status());
  std::vector<std::string> arguments = {context.program_dir + "/rollcall-rollout",
                                        "--model",
                                        flags.directory,
                                        "--http",
                                        JoinHostPort({flags.host, flags.port}),
                                        "--announce",
                                        "--log-level",
                                        "warning",
                                        "--kv-cache-mib",
                                        std::to_string(flags.kv_cache_mib),
                                        "--max-sequences",
                                        std::to_string(flags.max_sequences)};
  const auto add = [&arguments](const char* flag, const std::string& value) {
    if (!value.empty()) arguments.insert(arguments.end(), {flag, value});
  };
  add("--served-model-name", flags.name);
  add("--api-key-file", flags.api_key_file);
  add("--tls-ca", context.flags.tls.ca_file);
  add("--tls-cert", context.flags.tls.certificate_file);
  add("--tls-key", context.flags.tls.key_file);
  if (flags.exports_vllm_metrics) arguments.emplace_back("--vllm-metrics");
  std::vector<char*> raw;
  raw.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) raw.push_back(argument.data());
  raw.push_back(nullptr);
  ::execv(raw[0], raw.data());
  return NotFound("cannot start " + arguments[0] + ": " + std::generic_category().message(errno) +
                  "\nbuild it with `./dev build`: this build may be without the engine");
}

}  // namespace

void AddServe(CLI::App& app, Context& context) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* verb = app.add_subcommand(
      "serve", "Serve a model directory over an OpenAI-compatible HTTP API, until Ctrl-C");
  verb->add_option("model", flags->directory, "Model directory, as transformers writes it")
      ->required()
      ->type_name("DIR");
  verb->add_option("--host", flags->host, "Address to listen on; beyond loopback it needs TLS")
      ->capture_default_str();
  verb->add_option("--port", flags->port, "Port; 0 picks a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  verb->add_option("--name", flags->name, "Name of the model [last part of the directory]");
  verb->add_option("--api-key-file", flags->api_key_file,
                   "File of keys, one a line; requests must carry one");
  verb->add_option("--kv-cache-mib", flags->kv_cache_mib, "KV cache memory, in MiB")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--max-sequences", flags->max_sequences, "Sequences sampled at once")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  verb->add_flag("--vllm-metrics", flags->exports_vllm_metrics,
                 "Export the metrics under vLLM's names as well");
  verb->callback(
      [flags, &context] { context.action = [flags, &context] { return Serve(context, *flags); }; });
}

}  // namespace rollcall
