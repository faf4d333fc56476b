// Non-linearities of the feed-forward block. Seen by the kernels: nothing but the enumeration here.
#pragma once

namespace rollcall {

enum class Activation {
  kSilu,      // x / (1 + e^-x)
  kGelu,      // x times the normal distribution function
  kGeluTanh,  // its approximation with tanh: "gelu_new", "gelu_pytorch_tanh"
  kRelu,
};

}  // namespace rollcall
