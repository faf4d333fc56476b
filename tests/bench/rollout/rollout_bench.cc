// The engine's side of `./dev bench rollout`; one case per call, one JSON object on a line each.
//   rollout_bench run MODEL WORK | decode MODEL | group MODEL | linear | machine    [--help]
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <map>
#include <string>

#include <CLI/CLI.hpp>

#include "services/base/runtime/thread_team.h"
#include "tests/bench/machine_peaks.h"
#include "tests/bench/rollout/engine_cases.h"
#include "tests/bench/rollout/linear_cases.h"

namespace rollcall {
namespace {

void RunMachine(int num_threads) {
  ThreadTeam team(num_threads);
  const MachinePeaks peaks = MeasurePeaks(team);
  // About the sizes of the models in float32: the first stays in the last level of cache.
  std::printf(
      "{\"read_12mib\": %.3f, \"read_112mib\": %.3f, \"read\": %.3f, \"fp32\": %.3f, "
      "\"bf16\": %.3f}\n",
      1e-9 * MeasureReading(team, 12 << 20), 1e-9 * MeasureReading(team, 112 << 20),
      1e-9 * peaks.read_bytes_per_s, 1e-9 * peaks.fma_flop_per_s, 1e-9 * peaks.bf16_flop_per_s);
}

int Main(int argc, char** argv) {
  CLI::App app{"The engine's side of ./dev bench rollout"};
  app.require_subcommand(1);
  RigOptions rig;
  std::string work;
  DecodeCase decode;
  LinearCase linear;
  int32_t num_samples = 16;
  app.add_option("--threads", rig.num_threads, "Compute threads")->check(CLI::Range(1, 256));
  app.add_option("--max-sequences", rig.max_sequences, "Running at once")
      ->check(CLI::Range(1, 1024));
  const std::map<std::string, Precision> precisions = {{"fp32", Precision::kFloat32},
                                                       {"bf16", Precision::kBFloat16}};
  app.add_option("--precision", rig.precision, "Of products and the KV cache")
      ->transform(CLI::CheckedTransformer(precisions));
  app.fallthrough();

  CLI::App* run = app.add_subcommand("run", "Prompts of a file by continuous batching");
  run->add_option("MODEL", rig.model)->required();
  run->add_option("WORK", work)->required();
  CLI::App* decoding = app.add_subcommand("decode", "Prefill and decode of equal sequences");
  decoding->add_option("MODEL", rig.model)->required();
  decoding->add_option("--sequences", decode.num_sequences)->check(CLI::Range(1, 128));
  decoding->add_option("--prompt", decode.prompt_tokens)->check(CLI::Range(1, 1 << 20));
  decoding->add_option("--new", decode.new_tokens)->check(CLI::Range(1, 1 << 20));
  CLI::App* group = app.add_subcommand("group", "One prompt, many samples");
  group->add_option("MODEL", rig.model)->required();
  group->add_option("--samples", num_samples)->check(CLI::Range(1, 128));
  CLI::App* linears = app.add_subcommand("linear", "Our linear layer beside at::linear");
  linears->add_option("--rows", linear.num_rows)->check(CLI::Range(1, 1 << 16));
  linears->add_option("--depth", linear.depth)->check(CLI::Range(1, 1 << 16));
  linears->add_option("--outputs", linear.num_outputs)->check(CLI::Range(1, 1 << 18));
  CLI::App* machine = app.add_subcommand("machine", "Peaks of this machine");
  CLI11_PARSE(app, argc, argv);

  linear.num_threads = rig.num_threads;
  linear.precision = rig.precision;
  Status status;
  if (run->parsed()) status = RunWork(rig, work);
  if (decoding->parsed()) status = RunDecode(rig, decode);
  if (group->parsed()) status = RunGroup(rig, num_samples);
  if (linears->parsed()) status = RunLinear(linear);
  if (machine->parsed()) RunMachine(rig.num_threads);
  if (!status.ok()) std::cerr << "error: " << Message(status) << "\n";
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace rollcall

int main(int argc, char** argv) { return rollcall::Main(argc, argv); }
