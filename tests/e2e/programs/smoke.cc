#include <cstdio>

#include "muster/muster.h"
int Add(int a, int b) { return a + b; }
std::string Where() {
  printf("hello from task\n");
  return muster::CurrentTask().node;
}
int Fail(int x) { throw std::runtime_error("bad " + std::to_string(x)); }
int main(int argc, char** argv) {
  auto t0 = absl::Now();
  muster::Init(argc, argv);
  auto t1 = absl::Now();
  auto r = muster::Task<Add>().Remote(1, 2);
  auto v = muster::Get(r);
  auto t2 = absl::Now();
  if (!v.ok()) {
    printf("err %s\n", v.status().ToString().c_str());
    return 1;
  }
  printf("%d init %s first %s\n", *v, absl::FormatDuration(t1 - t0).c_str(),
         absl::FormatDuration(t2 - t1).c_str());
  auto chain = muster::Task<Add>().Remote(r, 10);
  printf("%d\n", muster::GetOrDie(chain));
  printf("%s\n", muster::GetOrDie(muster::Task<Where>().Remote()).c_str());
  printf("%s\n", muster::Get(muster::Task<Fail>().Remote(3)).status().ToString().c_str());
  std::vector<double> lat;
  for (int i = 0; i < 2000; ++i) {
    auto a = absl::Now();
    muster::GetOrDie(muster::Task<Add>().Remote(i, 1));
    lat.push_back(absl::ToDoubleMicroseconds(absl::Now() - a));
  }
  std::sort(lat.begin(), lat.end());
  printf("sync p50 %.1f us p99 %.1f\n", lat[1000], lat[1980]);
  for (int round = 0; round < 5; ++round) {
    auto a = absl::Now();
    std::vector<muster::ObjectRef<int>> refs;
    for (int i = 0; i < 1000; ++i) refs.push_back(muster::Task<Add>().Remote(i, 1));
    auto all = muster::Get(refs);
    double s = absl::ToDoubleSeconds(absl::Now() - a);
    printf("async %.0f /s\n", 1000 / s);
  }
}
