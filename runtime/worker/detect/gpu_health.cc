#include "runtime/worker/detect/gpu_health.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/worker/detect/nvml_abi.h"
#include "runtime/worker/detect/nvml_library.h"

namespace muster::worker {
namespace {

// A program's own: it ends, and the GPU goes on. 13 graphics engine exception, 31 memory page
// fault, 43 stopped processing, 45 preemptive clean-up, 68 video processor exception, 109 context
// switch timeout.
constexpr unsigned long long kOfPrograms[] = {13, 31, 43,
                                              45, 68, 109};  // NOLINT(google-runtime-int)

struct Functions {
  nvml::InitFn init = nullptr;
  nvml::InitFn shutdown = nullptr;
  nvml::GetHandleFn handle = nullptr;
  nvml::GetRemappedRowsFn remapped_rows = nullptr;  // Null: the driver is too old to know them.
  nvml::EventSetCreateFn create = nullptr;
  nvml::EventSetFreeFn free = nullptr;
  nvml::RegisterEventsFn listen = nullptr;
  nvml::EventSetWaitFn wait = nullptr;
};

// The first that is missing; null: all are there.
const char* FindAll(const nvml::Library& library, Functions& f) {
  nvml::Find(library, "nvmlDeviceGetRemappedRows", f.remapped_rows);
  if (!nvml::Find(library, "nvmlInit_v2", f.init)) return "nvmlInit_v2";
  if (!nvml::Find(library, "nvmlShutdown", f.shutdown)) return "nvmlShutdown";
  if (!nvml::Find(library, "nvmlDeviceGetHandleByIndex_v2", f.handle)) {
    return "nvmlDeviceGetHandleByIndex_v2";
  }
  if (!nvml::Find(library, "nvmlEventSetCreate", f.create)) return "nvmlEventSetCreate";
  if (!nvml::Find(library, "nvmlEventSetFree", f.free)) return "nvmlEventSetFree";
  if (!nvml::Find(library, "nvmlDeviceRegisterEvents", f.listen)) return "nvmlDeviceRegisterEvents";
  if (!nvml::Find(library, "nvmlEventSetWait_v2", f.wait)) return "nvmlEventSetWait_v2";
  return nullptr;
}

class Watch final : public GpuHealth {
 public:
  Watch(nvml::Library library, Functions functions, const std::vector<GpuDevice>& devices)
      : library_(std::move(library)), nvml_(functions) {
    for (size_t i = 0; i < devices.size(); ++i) {
      if (devices[i].pretended) continue;
      gpu(devices[i].index).devices.push_back(static_cast<int>(i));
    }
  }
  ~Watch() override {
    if (events_ != nullptr) nvml_.free(events_);
    if (initialised_) nvml_.shutdown();
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // False: the driver does not answer.
  bool Begin(std::vector<std::string>& notes) {
    initialised_ = nvml_.init() == nvml::kSuccess;
    if (!initialised_ || nvml_.create(&events_) != nvml::kSuccess) return false;
    for (Gpu& gpu : gpus_) {
      const bool listens = nvml_.handle(gpu.index, &gpu.handle) == nvml::kSuccess &&
                           nvml_.listen(gpu.handle, nvml::kXidCritical, events_) == nvml::kSuccess;
      if (!listens) {
        notes.push_back(absl::StrCat("the driver tells no errors of GPU ", gpu.index));
      }
    }
    return true;
  }

  std::vector<GpuTrouble> Wait(absl::Duration longest) override {
    std::vector<GpuTrouble> found;
    nvml::EventData event{};
    auto wait = static_cast<unsigned>(absl::ToInt64Milliseconds(longest));
    nvml::Return rc = nvml::kSuccess;
    while ((rc = nvml_.wait(events_, &event, wait)) == nvml::kSuccess) {
      wait = 0;  // What else has come.
      const bool of_program = std::find(std::begin(kOfPrograms), std::end(kOfPrograms),
                                        event.data) != std::end(kOfPrograms);
      if (event.type != nvml::kXidCritical || of_program) continue;
      for (Gpu& gpu : gpus_) {
        if (gpu.handle == event.device) Tell(gpu, absl::StrCat("xid ", event.data), found);
      }
    }
    for (Gpu& gpu : gpus_) LookAt(gpu, found);
    // Without its error the wait would be none.
    if (rc != nvml::kTimeout && found.empty()) absl::SleepFor(longest);
    return found;
  }

 private:
  struct Gpu {
    unsigned index = 0;
    nvml::Device handle = nullptr;
    std::vector<int> devices{};
    bool told = false;
  };

  Gpu& gpu(int index) {
    for (Gpu& gpu : gpus_) {
      if (gpu.index == static_cast<unsigned>(index)) return gpu;
    }
    gpus_.push_back({.index = static_cast<unsigned>(index)});
    return gpus_.back();
  }

  void LookAt(Gpu& gpu, std::vector<GpuTrouble>& found) {
    nvml::Device handle = nullptr;
    if (nvml_.handle(gpu.index, &handle) == nvml::kGpuIsLost)
      return Tell(gpu, "GPU is lost", found);
    if (nvml_.remapped_rows == nullptr || gpu.handle == nullptr) return;
    unsigned correctable = 0;
    unsigned uncorrectable = 0;
    unsigned pending = 0;
    unsigned failed = 0;
    const nvml::Return rc =
        nvml_.remapped_rows(gpu.handle, &correctable, &uncorrectable, &pending, &failed);
    if (rc == nvml::kGpuIsLost) return Tell(gpu, "GPU is lost", found);
    if (rc == nvml::kSuccess && failed != 0) Tell(gpu, "rows could not be remapped", found);
  }

  static void Tell(Gpu& gpu, const std::string& reason, std::vector<GpuTrouble>& found) {
    if (std::exchange(gpu.told, true)) return;
    for (const int device : gpu.devices) found.push_back({.device = device, .reason = reason});
  }

  const nvml::Library library_;
  const Functions nvml_;
  bool initialised_ = false;
  nvml::EventSet events_ = nullptr;
  std::vector<Gpu> gpus_;
};

}  // namespace

std::unique_ptr<GpuHealth> GpuHealth::Open(const std::vector<GpuDevice>& devices,
                                           std::vector<std::string>& notes,
                                           const std::string& library) {
  if (std::all_of(devices.begin(), devices.end(),
                  [](const GpuDevice& device) { return device.pretended; })) {
    return nullptr;
  }
  nvml::Library handle = nvml::Load(library);
  if (handle == nullptr) return nullptr;  // Then there are no devices either.
  Functions functions;
  if (const char* missing = FindAll(handle, functions); missing != nullptr) {
    notes.push_back(absl::StrCat("GPUs are not watched: ", library, " has no ", missing));
    return nullptr;
  }
  auto watch = std::make_unique<Watch>(std::move(handle), functions, devices);
  if (watch->Begin(notes)) return watch;
  notes.push_back("GPUs are not watched: the NVIDIA driver does not answer");
  return nullptr;
}

}  // namespace muster::worker
