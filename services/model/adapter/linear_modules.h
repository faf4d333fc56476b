// The linear modules of a model as its files have them: what an adapter can be put on. No torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "services/model/config/model_config.h"
#include "services/model/weights/disk_layout.h"

namespace rollcall {

struct LinearModule {
  std::string name;  // of the module: its weight's name without ".weight"
  int64_t num_inputs = 0;
  int64_t num_outputs = 0;
  bool is_in_layer = false;     // else it is an output head
  bool is_transposed = false;   // [inputs, outputs] on disk
  std::vector<DiskPart> parts;  // of the parameters that it holds
};

// In the order of ListDiskTensors: the projections of every layer, then the output head. Embeddings
// are no linear modules, and neither is an output projection that is tied to one.
std::vector<LinearModule> ListLinearModules(const ModelConfig& config, Head head);

}  // namespace rollcall
