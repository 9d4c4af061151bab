// The collectives of the group whose rank runs here: connected through the group's store at their
// first use.
#pragma once

#include <memory>
#include <string>

#include "muster/collective.h"
#include "runtime/executor/executor_context.h"

namespace muster::executor {

std::unique_ptr<Collectives> MakeCollectives(ExecutorContext& context, const GroupInfo& group,
                                             const std::string& node);

}  // namespace muster::executor
