// The launchers of the .cu files, for the table in kernel_table.cu; see device_kernels.h.
#pragma once

#include "services/model/kernels/cuda/device.h"
#include "services/model/kernels/cuda/device_kernels.h"

namespace rollcall::ROLLCALL_DEVICE_NAMESPACE {

int RmsNorm(const RmsNormArgs& args, DeviceStream stream);
int LayerNorm(const LayerNormArgs& args, DeviceStream stream);
int Rotary(const RotaryArgs& args, DeviceStream stream);
int Activate(const ActivationArgs& args, DeviceStream stream);
int SoftCap(const SoftCapArgs& args, DeviceStream stream);
int Add(const DeviceAddArgs& args, DeviceStream stream);
int Embed(const DeviceEmbedArgs& args, DeviceStream stream);
int GatherRows(const DeviceGatherArgs& args, DeviceStream stream);
int Convert(const DeviceConvertArgs& args, DeviceStream stream);
int Linear(const DeviceLinearArgs& args, DeviceStream stream);
int LogSoftmax(const DeviceLogSoftmaxArgs& args, DeviceStream stream);
int KvAppend(const DeviceKvAppendArgs& args, DeviceStream stream);
int CopyBlocks(const DeviceCopyBlocksArgs& args, DeviceStream stream);
int Attention(const DeviceAttentionArgs& args, DeviceStream stream);

}  // namespace rollcall::ROLLCALL_DEVICE_NAMESPACE
