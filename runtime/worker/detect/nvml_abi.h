// The few types and values of NVIDIA's management library that muster uses, as its ABI has them.
// The library comes with the driver and is loaded at run time, so there is no header of it to build
// against.
//
// Source: NVML API reference guide; these functions and values have been stable since driver 450
// (MIG) and 396 (the rest).
#pragma once

namespace muster::worker::nvml {

using Return = int;  // A C enum.
inline constexpr Return kSuccess = 0;
inline constexpr Return kNotSupported = 3;
inline constexpr Return kNotFound = 6;
inline constexpr Return kDriverNotLoaded = 9;
inline constexpr Return kTimeout = 10;
inline constexpr Return kGpuIsLost = 15;

struct DeviceStruct;  // Opaque.
using Device = DeviceStruct*;

struct Memory {
  unsigned long long total;  // NOLINT(google-runtime-int): the ABI's own type. Bytes.
  unsigned long long free;   // NOLINT(google-runtime-int)
  unsigned long long used;   // NOLINT(google-runtime-int)
};

struct EventSetStruct;  // Opaque.
using EventSet = EventSetStruct*;
inline constexpr unsigned long long kXidCritical = 0x8;  // NOLINT(google-runtime-int)
struct EventData {
  Device device;
  unsigned long long type;  // NOLINT(google-runtime-int)
  unsigned long long data;  // NOLINT(google-runtime-int): of a critical XID, its number.
  unsigned gpu_instance;
  unsigned compute_instance;
};

inline constexpr unsigned kTextBytes = 96;  // Enough for names and UUIDs, NVML says.
inline constexpr unsigned kMigEnabled = 1;

using InitFn = Return (*)();  // nvmlInit_v2, nvmlShutdown.
using ErrorStringFn = const char* (*)(Return);
using GetCountFn = Return (*)(unsigned*);               // nvmlDeviceGetCount_v2.
using GetHandleFn = Return (*)(unsigned, Device*);      // nvmlDeviceGetHandleByIndex_v2.
using GetTextFn = Return (*)(Device, char*, unsigned);  // nvmlDeviceGetName, nvmlDeviceGetUUID.
using GetMemoryFn = Return (*)(Device, Memory*);        // nvmlDeviceGetMemoryInfo.
using GetMigModeFn = Return (*)(Device, unsigned*,
                                unsigned*);           // nvmlDeviceGetMigMode: current, pending.
using GetMigCountFn = Return (*)(Device, unsigned*);  // nvmlDeviceGetMaxMigDeviceCount.
using GetMigHandleFn = Return (*)(Device, unsigned,
                                  Device*);  // nvmlDeviceGetMigDeviceHandleByIndex.
// nvmlDeviceGetRemappedRows: correctable, uncorrectable, pending, failure occurred.
using GetRemappedRowsFn = Return (*)(Device, unsigned*, unsigned*, unsigned*, unsigned*);
using EventSetCreateFn = Return (*)(EventSet*);                     // nvmlEventSetCreate.
using EventSetFreeFn = Return (*)(EventSet);                        // nvmlEventSetFree.
using RegisterEventsFn = Return (*)(Device, unsigned long long,     // NOLINT(google-runtime-int)
                                    EventSet);                      // nvmlDeviceRegisterEvents.
using EventSetWaitFn = Return (*)(EventSet, EventData*, unsigned);  // nvmlEventSetWait_v2: ms.

}  // namespace muster::worker::nvml
