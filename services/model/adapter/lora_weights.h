// A low-rank adapter in use and not merged: the decoder adds scale * B (A x) to what a projection
// gives. The base model's weights stay as they are, and gradients flow to A and B.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "services/base/status/status.h"
#include "services/model/adapter/lora_adapter.h"
#include "services/model/tensor.h"
#include "services/model/weights/model_weights.h"

namespace rollcall {

// Letters: R rank, I inputs, O outputs of one projection. Undefined tensors: no adapter there.
struct LoraPair {
  at::Tensor a_RI;
  at::Tensor b_OR;
  double scale = 0;
};

struct LayerLora {
  LoraPair q_proj;
  LoraPair k_proj;
  LoraPair v_proj;
  LoraPair o_proj;
  LoraPair gate_proj;
  LoraPair up_proj;
  LoraPair down_proj;
};

// Projections of a module that is fused on disk share one A. Not thread-safe while being written.
struct LoraWeights {
  std::vector<LayerLora> layers;
  // The adapter's names, sizes and alphas, and the tensors that hold its values: A, and B by the
  // parameters of its module.
  struct Module {
    LoraModule shape;  // without values
    at::Tensor a_RI;
    std::vector<at::Tensor> b_OR;  // in the order of the module's parts
  };
  std::vector<Module> modules;
  std::string base_model;
  bool is_rank_stabilised = false;
  // Parts of the adapter that are no low-rank pairs; they are in the base model's weights now.
  std::vector<WholeTensor> whole_tensors;
};

// Puts the adapter on the model (as ReadAdapter or MakeAdapter gave it for this config and head);
// its whole tensors replace the model's. With kAccumulate A and B are leaves that collect
// gradients. kInvalidArgument: an adapter of the output head, which only works merged.
Status AttachAdapter(const LoraAdapter& adapter, Gradients gradients, ModelWeights* weights);

// The adapter with its values as they are now. kFailedPrecondition: there is none.
StatusOr<LoraAdapter> DetachedAdapter(const ModelWeights& weights);

}  // namespace rollcall
