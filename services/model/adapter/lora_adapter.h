// Low-rank adapters in PEFT's format: adapter_config.json and adapter_model.safetensors. No torch.
//   W' = W + scale * B A,  scale = alpha / rank, or alpha / sqrt(rank) when rank-stabilised
// Source: Hu et al. 2021, arXiv 2106.09685; Kalajdzievski 2023, arXiv 2312.03732.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/model/adapter/linear_modules.h"
#include "services/model/config/model_config.h"

namespace rollcall {

// The adapter of one linear module as it is on disk, where it may be a fused one: the module of
// GPT-2's c_attn gives queries, keys and values.
struct LoraModule {
  std::string name;  // Hugging Face's, e.g. "model.layers.0.self_attn.q_proj"
  int64_t rank = 0;
  double alpha = 0;
  int64_t num_inputs = 0;
  int64_t num_outputs = 0;
  std::vector<float> a;  // [rank, inputs]
  std::vector<float> b;  // [outputs, rank]
};

// A whole tensor that travels with an adapter and takes the place of the base model's: PEFT saves
// the weight under an adapted output head, and the modules named in modules_to_save.
struct WholeTensor {
  std::string name;           // on disk, e.g. "score.weight"
  std::vector<float> values;  // as on disk
};

struct LoraAdapter {
  std::string base_model;  // where the base model was; for people
  bool is_rank_stabilised = false;
  std::vector<LoraModule> modules;  // in the order of the model's tensors, each at most once
  std::vector<WholeTensor> whole_tensors;
};

double LoraScale(const LoraAdapter& adapter, const LoraModule& module);

// Reads the adapter of a base model of this config and head. Errors name file and key or tensor:
// another method than LoRA, DoRA, trained biases, whole modules (modules_to_save), embeddings,
// modules that the model does not have, shapes that do not fit, halves without their other half.
StatusOr<LoraAdapter> ReadAdapter(const std::string& directory, const ModelConfig& base, Head head);

// Writes a directory that PEFT loads; the weights last, each file atomically. F32 on disk.
Status WriteAdapter(const std::string& directory, const ModelConfig& base, Head head,
                    const LoraAdapter& adapter);

struct LoraOptions {
  int64_t rank = 8;
  double alpha = 16;
  bool is_rank_stabilised = false;
  // Last parts of module names ("q_proj"), or "all-linear": every projection of the layers.
  std::vector<std::string> targets = {"all-linear"};
  uint64_t seed = 0;
};

// A fresh adapter that changes nothing yet: A uniform in +-1/sqrt(inputs), B zero; its values
// depend on the seed, the module's name and the sizes alone. kInvalidArgument: a rank that is not
// in 1..4096, a target that the model does not have (with those it has).
StatusOr<LoraAdapter> MakeAdapter(const ModelConfig& base, Head head, const LoraOptions& options);

// Puts the whole tensors in and adds the adapter to the base model's parameters: an arena of
// ListParameters(base, head). The adapter must be of this base (as ReadAdapter and MakeAdapter see
// to). O(parameters x rank).
void MergeAdapter(const LoraAdapter& adapter, const ModelConfig& base, Head head,
                  std::span<float> arena);

// Rows of B that belong to a parameter, in its order: [outputs of the parameter, rank].
std::vector<float> LoraRows(const LoraModule& module, const DiskPart& part, int64_t num_outputs);
// The other way round.
void SetLoraRows(const DiskPart& part, std::span<const float> rows, LoraModule* module);

}  // namespace rollcall
