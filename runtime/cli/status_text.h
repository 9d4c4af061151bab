// A head's answers as people read them.
// Thread-safety: free functions.
#pragma once

#include <string>

#include "muster/v1/cluster.pb.h"
#include "runtime/cli/output.h"

namespace muster::cli {

std::string StatusText(const v1::StatusReply& reply, const Style& style);
std::string NodesText(const v1::StatusReply& reply, const Style& style);
// Tables, at least their headings.
std::string TenantsText(const v1::StatusReply& reply, const Style& style);
std::string QuotasText(const v1::StatusReply& reply, const Style& style);

}  // namespace muster::cli
