#include "runtime/worker/detect/visible_devices.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace muster::worker {
namespace {

bool IsUuid(absl::string_view entry) {
  return absl::StartsWith(entry, "GPU-") || absl::StartsWith(entry, "MIG-");
}

// The devices, by position, that an entry of CUDA_VISIBLE_DEVICES stands for: one GPU, one
// instance, or all instances of one GPU. Empty where it names none, or by a prefix more than one.
std::vector<size_t> Named(const std::vector<GpuDevice>& devices, absl::string_view entry) {
  std::vector<size_t> found;
  std::set<std::string> owners;
  int index = 0;
  const bool by_index = absl::SimpleAtoi(entry, &index);
  for (size_t i = 0; i < devices.size(); ++i) {
    const GpuDevice& device = devices[i];
    if (by_index ? device.index == index : absl::StartsWith(device.gpu_id, entry)) {
      owners.insert(device.gpu_id);
    } else if (!by_index && absl::StartsWith(device.id, entry)) {
      owners.insert(device.id);
    } else {
      continue;
    }
    found.push_back(i);
  }
  if (!by_index && !IsUuid(entry)) found.clear();
  if (owners.size() > 1) found.clear();
  return found;
}

std::vector<GpuDevice> KeepCudaVisible(const std::vector<GpuDevice>& devices,
                                       const std::string& visible,
                                       std::vector<std::string>& notes) {
  std::vector<GpuDevice> kept;
  if (visible.empty() || visible == "NoDevFiles") return kept;
  std::set<size_t> taken;
  for (absl::string_view piece : absl::StrSplit(visible, ',')) {
    const absl::string_view entry = absl::StripAsciiWhitespace(piece);
    const std::vector<size_t> named = Named(devices, entry);
    if (named.empty()) {
      notes.push_back(absl::StrCat("CUDA_VISIBLE_DEVICES=", visible, ": \"", entry,
                                   "\" names no GPU here; the list ends before it, as in CUDA"));
      break;
    }
    for (const size_t i : named) {
      if (taken.insert(i).second) kept.push_back(devices[i]);
    }
  }
  return kept;
}

std::vector<GpuDevice> KeepNvidiaVisible(const std::vector<GpuDevice>& devices,
                                         const std::string& visible) {
  const std::vector<std::string> entries = absl::StrSplit(visible, ',');
  if (!std::all_of(entries.begin(), entries.end(), [](const auto& e) { return IsUuid(e); })) {
    return devices;
  }
  std::vector<GpuDevice> kept;
  for (const GpuDevice& device : devices) {
    const bool named = std::any_of(entries.begin(), entries.end(), [&](const std::string& entry) {
      return entry == device.id || entry == device.gpu_id;
    });
    if (named) kept.push_back(device);
  }
  return kept;
}

}  // namespace

Gpus Restrict(Gpus gpus, const VisibleDevices& visible) {
  const size_t all = gpus.devices.size();
  if (all == 0) return gpus;
  std::string by;
  if (visible.nvidia) {
    gpus.devices = KeepNvidiaVisible(gpus.devices, *visible.nvidia);
    if (gpus.devices.size() < all) by = absl::StrCat("NVIDIA_VISIBLE_DEVICES=", *visible.nvidia);
  }
  if (visible.cuda) {
    const size_t before = gpus.devices.size();
    gpus.devices = KeepCudaVisible(gpus.devices, *visible.cuda, gpus.notes);
    if (gpus.devices.size() < before) by = absl::StrCat("CUDA_VISIBLE_DEVICES=", *visible.cuda);
  }
  if (!by.empty()) {
    gpus.notes.push_back(absl::StrCat("offers ", gpus.devices.size(), " of ", all, " GPUs: ", by));
  }
  return gpus;
}

}  // namespace muster::worker
