#include "runtime/worker/detect/testing/fake_nvml.h"

#include <cstring>

namespace {

using muster::worker::FakeDevice;
using muster::worker::FakeNvml;
using namespace muster::worker::nvml;  // NOLINT(google-build-using-namespace): this file is that
                                       // library.

FakeNvml state;

FakeDevice& AsFake(Device device) { return *reinterpret_cast<FakeDevice*>(device); }

Return CopyText(const std::string& text, char* buffer, unsigned length) {
  if (text.size() + 1 > length) return 7;  // NVML_ERROR_INSUFFICIENT_SIZE.
  std::memcpy(buffer, text.c_str(), text.size() + 1);
  return kSuccess;
}

Return GetHandle(std::vector<FakeDevice>& devices, unsigned index, Device* device) {
  if (index >= devices.size()) return 2;  // NVML_ERROR_INVALID_ARGUMENT.
  *device = reinterpret_cast<Device>(&devices[index]);
  return devices[index].handle_rc;
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names are NVML's.
extern "C" {

FakeNvml* FakeNvmlState() { return &state; }

Return nvmlInit_v2() {
  if (state.init_rc == kSuccess) ++state.open;
  return state.init_rc;
}

Return nvmlShutdown() {
  --state.open;
  return kSuccess;
}

const char* nvmlErrorString(Return rc) { return rc == kGpuIsLost ? "GPU is lost" : "Some error"; }

Return nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(state.gpus.size());
  return state.count_rc;
}

Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device* device) {
  return GetHandle(state.gpus, index, device);
}

Return nvmlDeviceGetName(Device device, char* buffer, unsigned length) {
  return CopyText(AsFake(device).name, buffer, length);
}

Return nvmlDeviceGetUUID(Device device, char* buffer, unsigned length) {
  if (AsFake(device).uuid_rc != kSuccess) return AsFake(device).uuid_rc;
  return CopyText(AsFake(device).uuid, buffer, length);
}

Return nvmlDeviceGetMemoryInfo(Device device, Memory* memory) {
  *memory = {AsFake(device).memory_bytes, AsFake(device).memory_bytes, 0};
  return AsFake(device).memory_rc;
}

Return nvmlEventSetCreate(EventSet* set) {
  ++state.event_sets;
  *set = reinterpret_cast<EventSet>(&state);
  return kSuccess;
}

Return nvmlEventSetFree(EventSet) {
  --state.event_sets;
  return kSuccess;
}

// NOLINTNEXTLINE(google-runtime-int)
Return nvmlDeviceRegisterEvents(Device, unsigned long long, EventSet) { return state.listen_rc; }

Return nvmlEventSetWait_v2(EventSet, EventData* data, unsigned) {
  if (state.xids.empty()) return kTimeout;
  const auto [gpu, xid] = state.xids.front();
  state.xids.erase(state.xids.begin());
  *data = {.device = reinterpret_cast<Device>(&state.gpus[gpu]),
           .type = kXidCritical,
           .data = xid,
           .gpu_instance = 0,
           .compute_instance = 0};
  return kSuccess;
}

#ifndef FAKE_NVML_BEFORE_MIG
Return nvmlDeviceGetRemappedRows(Device device, unsigned* correctable, unsigned* uncorrectable,
                                 unsigned* pending, unsigned* failed) {
  *correctable = *uncorrectable = *pending = 0;
  *failed = AsFake(device).remapping_failed ? 1 : 0;
  return kSuccess;
}

Return nvmlDeviceGetMigMode(Device device, unsigned* current, unsigned* pending) {
  *current = *pending = AsFake(device).mig ? kMigEnabled : 0;
  return kSuccess;
}

Return nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned* count) {
  *count = static_cast<unsigned>(AsFake(device).slots.size());
  return AsFake(device).mig_count_rc;
}

Return nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device* instance) {
  const Return rc = GetHandle(AsFake(device).slots, index, instance);
  return rc == kSuccess && AsFake(*instance).uuid.empty() ? kNotFound : rc;
}
#endif

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
