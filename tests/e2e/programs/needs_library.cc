// A program that a node without its library cannot start.
#include <cstdio>

#include "muster/muster.h"

int NeededAnswer();

namespace {

int Ask() { return NeededAnswer(); }

}  // namespace

int main(int argc, char** argv) {
  muster::Init(argc, argv);
  const absl::StatusOr<int> answer = muster::Get(muster::Task<Ask>().Remote());
  printf("result %s\n",
         answer.ok() ? std::to_string(*answer).c_str() : answer.status().ToString().c_str());
  return answer.ok() ? 0 : 1;
}
