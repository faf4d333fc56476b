#include "services/model/kernels/cuda/launchers.h"

namespace rollcall {
namespace ROLLCALL_DEVICE_NAMESPACE {
namespace {

#if defined(__CUDACC__)
constexpr const char* kName = "cuda";
const char* ErrorText(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }
#else
constexpr const char* kName = "emulated";
const char* ErrorText(int error) { return error == 0 ? "no error" : "invalid configuration"; }
#endif

}  // namespace
}  // namespace ROLLCALL_DEVICE_NAMESPACE

#if defined(__CUDACC__)
#define ROLLCALL_TABLE kCudaKernels
#else
#define ROLLCALL_TABLE kEmulatedKernels
#endif

const DeviceKernels ROLLCALL_TABLE = {
    .name = ROLLCALL_DEVICE_NAMESPACE::kName,
    .error_text = ROLLCALL_DEVICE_NAMESPACE::ErrorText,
    .rms_norm = ROLLCALL_DEVICE_NAMESPACE::RmsNorm,
    .layer_norm = ROLLCALL_DEVICE_NAMESPACE::LayerNorm,
    .rotary = ROLLCALL_DEVICE_NAMESPACE::Rotary,
    .activate = ROLLCALL_DEVICE_NAMESPACE::Activate,
    .soft_cap = ROLLCALL_DEVICE_NAMESPACE::SoftCap,
    .add = ROLLCALL_DEVICE_NAMESPACE::Add,
    .embed = ROLLCALL_DEVICE_NAMESPACE::Embed,
    .gather_rows = ROLLCALL_DEVICE_NAMESPACE::GatherRows,
    .convert = ROLLCALL_DEVICE_NAMESPACE::Convert,
    .linear = ROLLCALL_DEVICE_NAMESPACE::Linear,
    .log_softmax = ROLLCALL_DEVICE_NAMESPACE::LogSoftmax,
    .kv_append = ROLLCALL_DEVICE_NAMESPACE::KvAppend,
    .copy_blocks = ROLLCALL_DEVICE_NAMESPACE::CopyBlocks,
    .attention = ROLLCALL_DEVICE_NAMESPACE::Attention,
};

}  // namespace rollcall
