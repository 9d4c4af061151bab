// Which GPUs this machine has, asked of the NVIDIA driver through its management library (NVML).
//
// A device is what one task can be given whole: a GPU, or, where MIG mode is on, each of its
// instances (the GPU itself then is not offered: CUDA cannot use it).
//
// Errors: none. No driver, a lost GPU or a failing call means fewer devices and a note for the log.
// Thread-safety: call from one thread at a time; NVML is loaded, asked, shut down and unloaded in
// each call. Source: NVML API reference guide; CUDA C++ programming guide for MIG.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muster::worker {

struct GpuDevice {
  std::string id{};      // As in CUDA_VISIBLE_DEVICES: "GPU-..." or "MIG-..."; a pretended one "0".
  int index = 0;         // NVML's, of the GPU: PCI bus order. MIG instances share their GPU's.
  std::string gpu_id{};  // A MIG instance's GPU; else as id.
  std::string model{};   // "NVIDIA A100-SXM4-40GB"
  std::string mig_profile{};  // "1g.5gb"; empty for a whole GPU.
  int64_t memory_bytes = 0;   // 0: the driver does not say (GPUs that share the CPU's memory).
  bool pretended = false;     // There is no such device: for tests and tries.
};

struct Gpus {
  std::vector<GpuDevice> devices{};  // By index.
  std::vector<std::string> notes{};  // For the log, one line each.
};

// The library's name, found as the dynamic loader finds it, or a path.
inline constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";
Gpus DetectGpus(const std::string& library = kNvmlLibrary);

// The value of ray.io/accelerator-type for a product name, as Ray gives it: "NVIDIA A100-SXM4-80GB"
// is "A100", "Tesla T4" is "T4", "NVIDIA RTX 6000 Ada Generation" is "RTX-6000", "NVIDIA GeForce
// RTX 4090" is "GeForce-RTX-4090". Always a legal label value; empty where the name has nothing to
// say. Source: NvidiaGPUAcceleratorManager of Ray 2.5x and the constants of ray.util.accelerators.
// Ray never gives its size-specific names (A100-40G, A100-80G) by itself, so neither do we.
std::string AcceleratorType(const std::string& model);

}  // namespace muster::worker
