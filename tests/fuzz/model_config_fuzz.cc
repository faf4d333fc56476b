// config.json: what is accepted is valid and is read back from what would be written.
#include "services/model/config/model_config.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using rollcall::fuzz::Require;
  const auto config = rollcall::ParseModelConfig(rollcall::fuzz::Text(data, size), "fuzz");
  if (!config.ok()) return 0;
  Require(rollcall::ValidateModelConfig(*config).ok());
  Require(rollcall::ParseModelConfig(rollcall::ModelConfigToJson(*config), "written").ok());
  return 0;
}
