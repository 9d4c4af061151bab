// The commands of `muster`: each is one function in a file of its own, and one line in main.cc's
// table.
//
// Exit codes are a contract with scripts: 0 done, 1 the answer is no or the work failed, 2 wrong
// usage, 3 the cluster cannot be reached.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace muster::cli {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kWrongUsage = 2;
inline constexpr int kUnreachable = 3;

// `arguments` are those after the command's name. Each returns the exit code.
int RunDown(const std::vector<std::string>& arguments);
int RunDrain(const std::vector<std::string>& arguments);
int RunExplain(const std::vector<std::string>& arguments);
int RunFairShare(const std::vector<std::string>& arguments);
int RunHead(const std::vector<std::string>& arguments);
int RunNodes(const std::vector<std::string>& arguments);
int RunQuarantine(const std::vector<std::string>& arguments);
int RunQuota(const std::vector<std::string>& arguments);
int RunSelector(const std::vector<std::string>& arguments);
int RunStatus(const std::vector<std::string>& arguments);
int RunUp(const std::vector<std::string>& arguments);
int RunVersion(const std::vector<std::string>& arguments);
int RunWhatIf(const std::vector<std::string>& arguments);
int RunWorker(const std::vector<std::string>& arguments);

}  // namespace muster::cli
