#include "runtime/worker/detect/gpus.h"

#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <optional>
#include <regex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/worker/detect/nvml_abi.h"
#include "runtime/worker/detect/nvml_library.h"

namespace muster::worker {
namespace {

// NVML's functions, looked up by name. Those for MIG are null where the driver is too old to know
// MIG.
struct Functions {
  nvml::InitFn init = nullptr;
  nvml::InitFn shutdown = nullptr;
  nvml::ErrorStringFn error_string = nullptr;
  nvml::GetCountFn count = nullptr;
  nvml::GetHandleFn handle = nullptr;
  nvml::GetTextFn name = nullptr;
  nvml::GetTextFn uuid = nullptr;
  nvml::GetMemoryFn memory = nullptr;
  nvml::GetMigModeFn mig_mode = nullptr;
  nvml::GetMigCountFn mig_count = nullptr;
  nvml::GetMigHandleFn mig_handle = nullptr;
};

// The name of the function that is missing, or nullptr when all that must be there are.
const char* FindAll(const nvml::Library& library, Functions& f) {
  if (!nvml::Find(library, "nvmlInit_v2", f.init)) return "nvmlInit_v2";
  if (!nvml::Find(library, "nvmlShutdown", f.shutdown)) return "nvmlShutdown";
  if (!nvml::Find(library, "nvmlDeviceGetCount_v2", f.count)) return "nvmlDeviceGetCount_v2";
  if (!nvml::Find(library, "nvmlDeviceGetHandleByIndex_v2", f.handle)) {
    return "nvmlDeviceGetHandleByIndex_v2";
  }
  if (!nvml::Find(library, "nvmlDeviceGetName", f.name)) return "nvmlDeviceGetName";
  if (!nvml::Find(library, "nvmlDeviceGetUUID", f.uuid)) return "nvmlDeviceGetUUID";
  if (!nvml::Find(library, "nvmlDeviceGetMemoryInfo", f.memory)) return "nvmlDeviceGetMemoryInfo";
  nvml::Find(library, "nvmlErrorString", f.error_string);
  const bool knows_mig = nvml::Find(library, "nvmlDeviceGetMigMode", f.mig_mode) &&
                         nvml::Find(library, "nvmlDeviceGetMaxMigDeviceCount", f.mig_count) &&
                         nvml::Find(library, "nvmlDeviceGetMigDeviceHandleByIndex", f.mig_handle);
  if (!knows_mig) f.mig_mode = nullptr;
  return nullptr;
}

// Asks an initialised NVML for all devices.
class Survey {
 public:
  Survey(const Functions& functions, Gpus& gpus) : nvml_(functions), gpus_(gpus) {}

  void Run() {
    unsigned count = 0;
    if (const nvml::Return rc = nvml_.count(&count); rc != nvml::kSuccess) {
      Note(absl::StrCat("no GPUs: NVML cannot count them: ", Why(rc)));
      return;
    }
    if (count == 0) Note("no GPUs: the NVIDIA driver finds none");
    for (unsigned index = 0; index < count; ++index) VisitGpu(index);
  }

  std::string Why(nvml::Return rc) const {
    const char* text = nvml_.error_string == nullptr ? nullptr : nvml_.error_string(rc);
    return text == nullptr ? absl::StrCat("error ", rc) : absl::StrCat(text, " (", rc, ")");
  }

 private:
  void Note(std::string note) { gpus_.notes.push_back(std::move(note)); }

  void VisitGpu(unsigned index) {
    nvml::Device device = nullptr;
    if (const nvml::Return rc = nvml_.handle(index, &device); rc != nvml::kSuccess) {
      Note(absl::StrCat("GPU ", index, " is not offered: ", Why(rc)));
      return;
    }
    std::optional<GpuDevice> gpu = Describe(device, index, absl::StrCat("GPU ", index));
    if (!gpu) return;
    gpu->gpu_id = gpu->id;
    if (InMigMode(device)) {
      VisitInstances(device, *gpu);
    } else {
      gpus_.devices.push_back(*std::move(gpu));
    }
  }

  // UUID and name are needed; memory is good to know.
  std::optional<GpuDevice> Describe(nvml::Device device, unsigned index, const std::string& what) {
    GpuDevice found;
    found.index = static_cast<int>(index);
    for (const auto& [get, text] :
         {std::make_pair(nvml_.uuid, &found.id), std::make_pair(nvml_.name, &found.model)}) {
      char buffer[nvml::kTextBytes] = {};
      if (const nvml::Return rc = get(device, buffer, nvml::kTextBytes); rc != nvml::kSuccess) {
        Note(absl::StrCat(what, " is not offered: ", Why(rc)));
        return std::nullopt;
      }
      buffer[nvml::kTextBytes - 1] = '\0';
      *text = buffer;
    }
    nvml::Memory memory{};
    const nvml::Return rc = nvml_.memory(device, &memory);
    if (rc == nvml::kSuccess) {
      found.memory_bytes = static_cast<int64_t>(memory.total);
    } else if (rc != nvml::kNotSupported) {
      Note(absl::StrCat(what, " (", found.id, ") does not say its memory: ", Why(rc)));
    }
    return found;
  }

  bool InMigMode(nvml::Device device) const {
    unsigned current = 0;
    unsigned pending = 0;
    return nvml_.mig_mode != nullptr &&
           nvml_.mig_mode(device, &current, &pending) == nvml::kSuccess &&
           current == nvml::kMigEnabled;
  }

  void VisitInstances(nvml::Device device, const GpuDevice& gpu) {
    const std::string what = absl::StrCat("GPU ", gpu.index, " (", gpu.id, ")");
    unsigned slots = 0;
    if (const nvml::Return rc = nvml_.mig_count(device, &slots); rc != nvml::kSuccess) {
      Note(absl::StrCat(what, " is not offered: its MIG instances cannot be counted: ", Why(rc)));
      return;
    }
    int instances = 0;
    for (unsigned slot = 0; slot < slots; ++slot) {
      nvml::Device instance = nullptr;
      const nvml::Return rc = nvml_.mig_handle(device, slot, &instance);
      if (rc == nvml::kNotFound) continue;  // An empty slot.
      ++instances;
      const std::string which = absl::StrCat("MIG instance ", slot, " of ", what);
      if (rc != nvml::kSuccess) {
        Note(absl::StrCat(which, " is not offered: ", Why(rc)));
        continue;
      }
      std::optional<GpuDevice> found = Describe(instance, static_cast<unsigned>(gpu.index), which);
      if (!found) continue;
      found->gpu_id = gpu.id;
      // NVML names an instance "NVIDIA A100-SXM4-40GB MIG 1g.5gb".
      if (const size_t at = found->model.rfind(" MIG "); at != std::string::npos) {
        found->mig_profile = found->model.substr(at + 5);
      }
      found->model = gpu.model;
      gpus_.devices.push_back(*std::move(found));
    }
    if (instances == 0) {
      Note(absl::StrCat(what, " is not offered: its MIG mode is on, but it has no instances"));
    }
  }

  const Functions& nvml_;
  Gpus& gpus_;
};

// A legal label value: letters, digits, "-", "_" and ".", at most 63, a letter or digit at both
// ends.
std::string AsLabelValue(absl::string_view text) {
  std::string value;
  for (const char c : text) {
    const bool legal =
        std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
    value.push_back(legal ? c : '-');
  }
  value.resize(std::min<size_t>(value.size(), 63));
  const auto is_end = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  while (!value.empty() && !is_end(value.back())) value.pop_back();
  while (!value.empty() && !is_end(value.front())) value.erase(0, 1);
  return value;
}

}  // namespace

Gpus DetectGpus(const std::string& library) {
  Gpus gpus;
  const nvml::Library handle = nvml::Load(library);
  if (handle == nullptr) {
    gpus.notes.push_back(absl::StrCat("no GPUs: no NVIDIA driver here (", dlerror(), ")"));
    return gpus;
  }
  Functions functions;
  if (const char* missing = FindAll(handle, functions); missing != nullptr) {
    gpus.notes.push_back(absl::StrCat("no GPUs: ", library, " has no ", missing));
    return gpus;
  }
  Survey survey(functions, gpus);
  if (const nvml::Return rc = functions.init(); rc != nvml::kSuccess) {
    gpus.notes.push_back(
        absl::StrCat("no GPUs: the NVIDIA driver does not answer: ", survey.Why(rc)));
    return gpus;
  }
  survey.Run();
  functions.shutdown();
  return gpus;
}

std::string AcceleratorType(const std::string& model) {
  // After the brand, words in capitals up to the first that holds a digit: "A100", "RTX 6000".
  static const std::regex kModel(R"(^\w+\s+((?:[A-Z]+\s+)*[A-Z0-9]*[0-9][A-Z0-9]*))");
  std::smatch match;
  if (std::regex_search(model, match, kModel) && match[1].length() > 1) {
    return AsLabelValue(match[1].str());
  }
  absl::string_view name = model;  // "NVIDIA GeForce RTX 4090": all but the brand.
  constexpr absl::string_view kBrand = "NVIDIA ";
  if (name.substr(0, kBrand.size()) == kBrand) name.remove_prefix(kBrand.size());
  return AsLabelValue(name);
}

}  // namespace muster::worker
