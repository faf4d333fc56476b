// The kernels of a GPU, as CpuKernels are those of an instruction set. Plain C++: no CUDA header is
// needed to call them.
//
// Pointers are to the device's memory unless said otherwise, sizes and scalars are the host's.
// Activations are float32. Weights and cached keys and values are float32 or bfloat16; a product
// with a bfloat16 weight takes its other factor rounded to bfloat16 (nearest, ties to even), the
// sum is float32. Every function starts its kernels on the stream and returns at once: 0, or the
// number that ErrorText explains. Bits of a row do not depend on the other rows of the call.
// Nothing is allocated, so that every call may be captured in a graph.
#pragma once

#include <cstdint>

#include "services/model/kernels/activation.h"
#include "services/model/kernels/cuda/device_args.h"
#include "services/model/kernels/cuda/device_attention.h"
#include "services/model/kernels/cuda/device_dtype.h"
#include "services/model/kernels/layer_norm.h"
#include "services/model/kernels/rms_norm.h"
#include "services/model/kernels/rotary.h"
#include "services/model/kernels/soft_cap.h"

struct CUstream_st;

namespace rollcall {

// cudaStream_t.
using DeviceStream = CUstream_st*;

struct DeviceKernels {
  const char* name;
  const char* (*error_text)(int error);
  int (*rms_norm)(const RmsNormArgs& args, DeviceStream stream);
  int (*layer_norm)(const LayerNormArgs& args, DeviceStream stream);
  int (*rotary)(const RotaryArgs& args, DeviceStream stream);
  int (*activate)(const ActivationArgs& args, DeviceStream stream);
  int (*soft_cap)(const SoftCapArgs& args, DeviceStream stream);
  int (*add)(const DeviceAddArgs& args, DeviceStream stream);
  int (*embed)(const DeviceEmbedArgs& args, DeviceStream stream);
  int (*gather_rows)(const DeviceGatherArgs& args, DeviceStream stream);
  int (*convert)(const DeviceConvertArgs& args, DeviceStream stream);
  int (*linear)(const DeviceLinearArgs& args, DeviceStream stream);
  int (*log_softmax)(const DeviceLogSoftmaxArgs& args, DeviceStream stream);
  int (*kv_append)(const DeviceKvAppendArgs& args, DeviceStream stream);
  int (*copy_blocks)(const DeviceCopyBlocksArgs& args, DeviceStream stream);
  int (*attention)(const DeviceAttentionArgs& args, DeviceStream stream);
};

// Compiled by nvcc; only in builds with CUDA.
extern const DeviceKernels kCudaKernels;

}  // namespace rollcall
