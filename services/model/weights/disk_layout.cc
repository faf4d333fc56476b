#include "services/model/weights/disk_layout.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <string_view>

#include "services/base/status/status.h"

namespace rollcall {
namespace {

using enum ParameterRole;

// How a parameter shares its tensor with others.
enum class Sharing {
  kNone,
  kQkv,        // q, k, v one after the other
  kQkvByHead,  // for each head its q, its k, its v
  kGateUp,     // gate, up
};

struct DiskName {
  const char* name = nullptr;  // behind the layer's prefix when it belongs to a layer
  ParameterRole role = kEmbedding;
  Sharing sharing = Sharing::kNone;
};

// Where a model type differs from the canonical names.
struct DiskStyle {
  const char* model_type = nullptr;
  const char* base = nullptr;   // prefix of the decoder, which files of the bare decoder leave out
  const char* layer = nullptr;  // prefix of layer %
  bool is_transposed = false;
  const char* token_score = nullptr;  // prefix of a token score head
  std::span<const DiskName> names;
};

constexpr DiskName kPhi3Names[] = {{"self_attn.qkv_proj.weight", kQProj, Sharing::kQkv},
                                   {"self_attn.qkv_proj.weight", kKProj, Sharing::kQkv},
                                   {"self_attn.qkv_proj.weight", kVProj, Sharing::kQkv},
                                   {"mlp.gate_up_proj.weight", kGateProj, Sharing::kGateUp},
                                   {"mlp.gate_up_proj.weight", kUpProj, Sharing::kGateUp}};

constexpr DiskName kGpt2Names[] = {{"transformer.wte.weight", kEmbedding},
                                   {"transformer.wpe.weight", kPositionEmbedding},
                                   {"ln_1.weight", kInputNorm},
                                   {"ln_1.bias", kInputNormBias},
                                   {"attn.c_attn.weight", kQProj, Sharing::kQkv},
                                   {"attn.c_attn.weight", kKProj, Sharing::kQkv},
                                   {"attn.c_attn.weight", kVProj, Sharing::kQkv},
                                   {"attn.c_attn.bias", kQBias, Sharing::kQkv},
                                   {"attn.c_attn.bias", kKBias, Sharing::kQkv},
                                   {"attn.c_attn.bias", kVBias, Sharing::kQkv},
                                   {"attn.c_proj.weight", kOProj},
                                   {"attn.c_proj.bias", kOBias},
                                   {"ln_2.weight", kMlpNorm},
                                   {"ln_2.bias", kMlpNormBias},
                                   {"mlp.c_fc.weight", kUpProj},
                                   {"mlp.c_fc.bias", kUpBias},
                                   {"mlp.c_proj.weight", kDownProj},
                                   {"mlp.c_proj.bias", kDownBias},
                                   {"transformer.ln_f.weight", kFinalNorm},
                                   {"transformer.ln_f.bias", kFinalNormBias}};

constexpr DiskName kGptNeoxNames[] = {
    {"gpt_neox.embed_in.weight", kEmbedding},
    {"input_layernorm.weight", kInputNorm},
    {"input_layernorm.bias", kInputNormBias},
    {"attention.query_key_value.weight", kQProj, Sharing::kQkvByHead},
    {"attention.query_key_value.weight", kKProj, Sharing::kQkvByHead},
    {"attention.query_key_value.weight", kVProj, Sharing::kQkvByHead},
    {"attention.query_key_value.bias", kQBias, Sharing::kQkvByHead},
    {"attention.query_key_value.bias", kKBias, Sharing::kQkvByHead},
    {"attention.query_key_value.bias", kVBias, Sharing::kQkvByHead},
    {"attention.dense.weight", kOProj},
    {"attention.dense.bias", kOBias},
    {"post_attention_layernorm.weight", kMlpNorm},
    {"post_attention_layernorm.bias", kMlpNormBias},
    {"mlp.dense_h_to_4h.weight", kUpProj},
    {"mlp.dense_h_to_4h.bias", kUpBias},
    {"mlp.dense_4h_to_h.weight", kDownProj},
    {"mlp.dense_4h_to_h.bias", kDownBias},
    {"gpt_neox.final_layer_norm.weight", kFinalNorm},
    {"gpt_neox.final_layer_norm.bias", kFinalNormBias},
    {"embed_out.weight", kLmHead}};

constexpr DiskStyle kCanonical = {"", "model.", "model.layers.%.", false, "score.", {}};
constexpr DiskStyle kStyles[] = {
    {"phi3", "model.", "model.layers.%.", false, "score.", kPhi3Names},
    {"gpt2", "transformer.", "transformer.h.%.", true, "classifier.", kGpt2Names},
    {"gpt_neox", "gpt_neox.", "gpt_neox.layers.%.", false, "classifier.", kGptNeoxNames}};

const DiskStyle& StyleOf(std::string_view model_type) {
  for (const DiskStyle& style : kStyles) {
    if (model_type == style.model_type) return style;
  }
  return kCanonical;
}

const DiskName* FindName(const DiskStyle& style, ParameterRole role) {
  for (const DiskName& name : style.names) {
    if (name.role == role) return &name;
  }
  return nullptr;
}

std::string FullName(const DiskStyle& style, const DiskName& name, int64_t layer) {
  if (layer < 0) return name.name;
  std::string prefix = style.layer;
  prefix.replace(prefix.find('%'), 1, std::to_string(layer));
  return prefix + name.name;
}

// Matrices of the layers; embeddings and heads are never transposed.
bool IsProjection(const ParameterSpec& parameter) {
  return parameter.layer >= 0 && parameter.shape.size() == 2;
}

// Outputs of the whole tensor and the parameter's part of them.
struct Place {
  int64_t outputs = 0;
  DiskPart part;
};

Place PlaceOf(const ModelConfig& config, const ParameterSpec& parameter, Sharing sharing) {
  const int64_t outputs = parameter.shape.front();
  const int64_t query = config.num_heads * config.head_dim;
  const int64_t key = config.num_kv_heads * config.head_dim;
  const bool is_k = parameter.role == kKProj || parameter.role == kKBias;
  const bool is_v = parameter.role == kVProj || parameter.role == kVBias;
  switch (sharing) {
    case Sharing::kQkv:
      return {query + 2 * key,
              {.first = is_k   ? query
                        : is_v ? query + key
                               : 0,
               .group = outputs,
               .stride = outputs}};
    case Sharing::kQkvByHead:
      return {3 * query,
              {.first = is_k   ? config.head_dim
                        : is_v ? 2 * config.head_dim
                               : 0,
               .group = config.head_dim,
               .stride = 3 * config.head_dim}};
    case Sharing::kGateUp:
      return {
          2 * outputs,
          {.first = parameter.role == kUpProj ? outputs : 0, .group = outputs, .stride = outputs}};
    case Sharing::kNone:
      break;
  }
  return {outputs, {.first = 0, .group = outputs, .stride = outputs}};
}

std::vector<std::string> AliasesOf(const ModelConfig& config, const DiskStyle& style,
                                   const ParameterSpec& parameter, const std::string& name) {
  std::vector<std::string> aliases;
  if (name.starts_with(style.base)) {
    aliases.push_back(name.substr(std::string_view(style.base).size()));
  }
  if (parameter.role == kLmHead && name != parameter.name) aliases.push_back(parameter.name);
  // A critic may start from the reward model.
  if (parameter.role == kValueHead && HeadOfArchitecture(config) != Head::kLanguageModel &&
      config.num_labels == 1) {
    aliases.emplace_back("score.weight");
  }
  return aliases;
}

// Widens the bits of an IEEE half; subnormals, infinities and NaN included.
float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

constexpr uint16_t kHalfInfinity = 0x7c00;

uint16_t FloatToBrain(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

uint16_t FloatToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 65520.0F) return static_cast<uint16_t>(sign | kHalfInfinity);
  if (magnitude < 0x1.0p-14F) {
    const float scaled = magnitude * 0x1.0p+24F;  // subnormals count in steps of 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(scaled)));
  }
  const auto low = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = low + 0xfff + ((low >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded >> 13) - (112U << 10)));
}

struct Matrix {
  int64_t outputs = 1;
  int64_t inputs = 1;
};

Matrix MatrixOf(const DiskTensor& tensor) {
  if (tensor.shape.size() == 1) return {tensor.shape[0], 1};
  if (tensor.is_transposed) return {tensor.shape[1], tensor.shape[0]};
  return {tensor.shape[0], tensor.shape[1]};
}

// Calls fn(row of the parameter, row of the tensor, number of rows) for runs of neighbours.
template <typename Fn>
void ForRuns(const DiskPart& part, int64_t rows, Fn&& fn) {
  for (int64_t row = 0; row < rows; row += part.group) {
    fn(row, part.first + row / part.group * part.stride, part.group);
  }
}

}  // namespace

std::vector<DiskTensor> ListDiskTensors(const ModelConfig& config, Head head,
                                        const std::vector<ParameterSpec>& parameters) {
  const DiskStyle& style = StyleOf(config.model_type);
  std::vector<DiskTensor> tensors;
  std::map<std::string, size_t> index_of;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const ParameterSpec& parameter = parameters[i];
    const DiskName* row = FindName(style, parameter.role);
    std::string name = row == nullptr ? parameter.name : FullName(style, *row, parameter.layer);
    if (head == Head::kTokenScore && parameter.role == kScore) {
      name = std::string(style.token_score) + "weight";
    }
    if (parameter.role == kScoreBias) name = std::string(style.token_score) + "bias";
    Place place = PlaceOf(config, parameter, row == nullptr ? Sharing::kNone : row->sharing);
    place.part.parameter = i;
    const auto [it, is_new] = index_of.emplace(name, tensors.size());
    if (is_new) {
      DiskTensor& tensor = tensors.emplace_back();
      tensor.aliases = AliasesOf(config, style, parameter, name);
      tensor.name = name;
      tensor.shape = parameter.shape;
      tensor.shape.front() = place.outputs;
      tensor.is_transposed = style.is_transposed && IsProjection(parameter);
      if (tensor.is_transposed) std::swap(tensor.shape[0], tensor.shape[1]);
    }
    tensors[it->second].parts.push_back(place.part);
  }
  return tensors;
}

void ReadDiskTensor(const DiskTensor& tensor, const std::vector<TensorLayout>& layout, DType dtype,
                    std::span<const std::byte> data, std::span<float> arena) {
  const Matrix matrix = MatrixOf(tensor);
  const auto item = static_cast<int64_t>(DTypeSize(dtype));
  std::vector<float> run;
  const auto convert = [&](int64_t first, int64_t count, std::span<float> out) {
    ConvertToFloat(
        dtype, data.subspan(static_cast<size_t>(first * item), static_cast<size_t>(count * item)),
        out);
  };
  for (const DiskPart& part : tensor.parts) {
    const TensorLayout& place = layout[part.parameter];
    const std::span<float> out =
        arena.subspan(place.offset_bytes / sizeof(float), place.size_bytes / sizeof(float));
    ForRuns(part, place.shape.front(), [&](int64_t row, int64_t at, int64_t count) {
      if (!tensor.is_transposed) {
        const auto size = static_cast<size_t>(count * matrix.inputs);
        convert(at * matrix.inputs, count * matrix.inputs,
                out.subspan(static_cast<size_t>(row * matrix.inputs), size));
        return;
      }
      run.resize(static_cast<size_t>(count));
      for (int64_t input = 0; input < matrix.inputs; ++input) {
        convert(input * matrix.outputs + at, count, run);
        for (int64_t i = 0; i < count; ++i) {
          out[static_cast<size_t>((row + i) * matrix.inputs + input)] = run[static_cast<size_t>(i)];
        }
      }
    });
  }
}

void FillDiskTensor(const DiskTensor& tensor, const std::vector<TensorLayout>& layout,
                    std::span<const float> arena, std::span<float> values) {
  const Matrix matrix = MatrixOf(tensor);
  ROLLCALL_CHECK(static_cast<int64_t>(values.size()) == matrix.outputs * matrix.inputs);
  for (const DiskPart& part : tensor.parts) {
    const TensorLayout& place = layout[part.parameter];
    const std::span<const float> in =
        arena.subspan(place.offset_bytes / sizeof(float), place.size_bytes / sizeof(float));
    ForRuns(part, place.shape.front(), [&](int64_t row, int64_t at, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const float* from = in.data() + (row + i) * matrix.inputs;
        if (!tensor.is_transposed) {
          std::memcpy(values.data() + (at + i) * matrix.inputs, from,
                      static_cast<size_t>(matrix.inputs) * sizeof(float));
          continue;
        }
        for (int64_t input = 0; input < matrix.inputs; ++input) {
          values[static_cast<size_t>(input * matrix.outputs + at + i)] = from[input];
        }
      }
    });
  }
}

void ConvertToFloat(DType dtype, std::span<const std::byte> in, std::span<float> out) {
  ROLLCALL_CHECK(in.size() == out.size() * DTypeSize(dtype));
  if (dtype == DType::kF32) {
    if (!in.empty()) std::memcpy(out.data(), in.data(), in.size());
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, in.data() + 2 * i, sizeof(bits));
    out[i] = dtype == DType::kBF16 ? std::bit_cast<float>(static_cast<uint32_t>(bits) << 16)
                                   : HalfToFloat(bits);
  }
}

Status ConvertFromFloat(DType dtype, std::span<const float> in, std::span<std::byte> out) {
  ROLLCALL_CHECK(out.size() == in.size() * DTypeSize(dtype));
  if (dtype == DType::kF32) {
    if (!in.empty()) std::memcpy(out.data(), in.data(), out.size());
    return OkStatus();
  }
  for (size_t i = 0; i < in.size(); ++i) {
    const uint16_t bits = dtype == DType::kBF16 ? FloatToBrain(in[i]) : FloatToHalf(in[i]);
    if ((bits & kHalfInfinity) == kHalfInfinity && dtype == DType::kF16 && std::isfinite(in[i])) {
      return InvalidArgument("value " + std::to_string(in[i]) +
                             " is too large for F16, whose largest is 65504; BF16 has room");
    }
    std::memcpy(out.data() + 2 * i, &bits, sizeof(bits));
  }
  return OkStatus();
}

}  // namespace rollcall
