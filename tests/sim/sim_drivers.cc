// Drivers: what they submit, and what they are told.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster_sim_impl.h"

namespace muster::sim {

std::shared_ptr<DriverProcess> ClusterSim::MakeDriver(uint64_t job, const v1::LeaseKey* parent) {
  auto driver = std::make_shared<DriverProcess>();
  driver->id = prng_.Next();
  client::DriverConfig config;
  config.driver = driver->id;
  config.address = "head:6379";
  config.start = clock_.now();
  config.idle_lease = plan_.idle_lease;
  config.reconnect_timeout = plan_.reconnect_timeout;
  config.requests_max = plan_.requests_max;
  config.tasks_per_push_max = plan_.tasks_per_push_max;
  config.queued_tasks_max = plan_.queued_tasks_max;
  config.hello.set_name("app");
  config.hello.set_host_id("host 0");
  config.hello.set_job(job == 0 ? driver->id : job);
  if (job == 0) config.hello.set_tenant(absl::StrCat("t", driver->id % 3));
  config.hello.mutable_binary()->set_build_id(kBuildId);
  config.hello.mutable_binary()->set_path("/app");
  config.hello.mutable_binary()->set_host_id("host 0");
  if (parent != nullptr) *config.hello.mutable_parent() = *parent;
  driver->nested = parent != nullptr;
  driver->core = std::make_unique<client::DriverCore>(std::move(config));
  driver->values.resize(1);
  drivers_.emplace(driver->id, driver);
  Note("driver", driver->id, "starts");
  driver->backoff = absl::ZeroDuration();
  Connect(driver);
  driver->backoff = absl::Milliseconds(50);
  return driver;
}

void ClusterSim::StartDriver(int tasks, absl::Duration within) {
  const std::shared_ptr<DriverProcess> driver = MakeDriver(0, nullptr);
  for (int64_t i = prng_.Between(1, 5); i > 0; --i) {
    DrawnSpec drawn = DrawSpec(prng_, plan_.small);
    drawn.spec.set_name(absl::StrCat("class", i));
    const client::ClassNumber number = driver->core->AddClass(drawn.spec);
    driver->classes.emplace_back(number, std::move(drawn));
  }
  for (int i = 0; i < tasks; ++i) {
    const absl::Duration at =
        plan_.burst ? within / 2 : prng_.Between(absl::ZeroDuration(), within);
    clock_.After(at, [this, driver] {
      if (!driver->dead) SubmitDrawn(driver);
    });
  }
}

// It stays until it was placed and somewhat longer, or, of some, is removed while it waits.
void ClusterSim::MakeGroup(const std::shared_ptr<DriverProcess>& driver) {
  auto group = std::make_shared<SimGroup>();
  group->request = driver->core->NewRequest();
  client::CreateGroup create;
  create.group = ++driver->last_task;
  driver->values.resize(driver->last_task + 1);
  auto task = std::make_shared<SimTask>();  // Keeps the numbers of tasks without a gap.
  task->driver = driver->id;
  task->number = driver->last_task;
  task->completions = 1;
  task->may_fail = true;
  task->status = absl::CancelledError("a placement group has no result");
  driver->tasks.emplace(driver->last_task, task);
  create.request = group->request;
  create.spec = DrawPlacementGroup(prng_);
  create.cookie = group;
  const int bundles = create.spec.shapes(0).bundles_size();  // At least so many.
  for (const int bundle : {-1, 0, bundles - 1}) {
    group->inside.push_back(driver->core->AddClass(InsideSpec(group->request, bundle)));
  }
  driver->groups.push_back(group);
  Step(driver, std::move(create), "create group");
  const bool patient = prng_.Percent(80);
  clock_.After(prng_.Between(absl::ZeroDuration(), absl::Seconds(3)),
               [this, driver, group, patient] {
                 if (!patient) group->placed = true;
                 RemoveWhenPlaced(driver, group);
               });
}

void ClusterSim::RemoveWhenPlaced(const std::shared_ptr<DriverProcess>& driver,
                                  const std::shared_ptr<SimGroup>& group) {
  if (driver->dead || group->over) return;
  if (!group->placed) {
    clock_.After(prng_.Between(absl::Milliseconds(10), absl::Seconds(1)),
                 [this, driver, group] { RemoveWhenPlaced(driver, group); });
    return;
  }
  group->removed = true;
  Step(driver, client::RemoveGroup{group->request}, "remove group");
}

void ClusterSim::Do(const DriverPtr& driver, const client::GroupChanged& changed, Broke&) {
  const auto group = std::static_pointer_cast<SimGroup>(changed.cookie);
  Note("driver", driver->id, "group",
       absl::StrCat(group->request, changed.placed ? " placed" : "", " ",
                    changed.status.ToString()));
  group->placed = group->placed || changed.placed;
  if (group->over) checker_.Fail("a placement group that is over changes");
  if (changed.status.ok()) return;
  group->over = true;
  if (!group->removed && !plan_.any_fault()) {
    checker_.Fail(
        absl::StrCat("a placement group ended without any fault: ", changed.status.ToString()));
  }
}

std::string ClusterSim::DrawNode() {
  return workers_.empty() || !prng_.Percent(8) ? "" : Pick(workers_)->core->node_name();
}

// Hard half the time: that node or none.
void ClusterSim::AskForNode(const std::string& node, DrawnSpec& drawn) {
  const bool soft = prng_.Percent(50);
  drawn.spec.mutable_affinity()->set_node(node);
  drawn.spec.mutable_affinity()->set_soft(soft);
  // The node may be gone for good, or be too small.
  drawn.nowhere = drawn.nowhere || (!soft && (plan_.any_fault() || !plan_.small));
}

void ClusterSim::SubmitDrawn(const std::shared_ptr<DriverProcess>& driver) {
  if (plan_.placement_groups && prng_.Percent(8)) MakeGroup(driver);
  auto task = std::make_shared<SimTask>();
  const bool group = prng_.Percent(8);
  DrawnSpec drawn;
  client::ClassNumber task_class = 0;
  if (group) {
    const bool returns = !plan_.small && prng_.Percent(40);
    drawn = returns ? DrawReturning(prng_) : DrawSpec(prng_, plan_.small);
    task->ranks = static_cast<uint32_t>(prng_.Between(1, 3));
    // The big worker, or one of the small ones, must be able to hold it.
    if (plan_.small) task->ranks = 1;
    if (drawn.spec.choices(0).resources().gpus() > 10000) task->ranks = 1;
    drawn.spec.set_bundles(task->ranks);
    if (const std::string node = DrawNode(); !node.empty()) AskForNode(node, drawn);
    drawn.spec.set_name("group");
  } else {
    if (const std::string node = DrawNode(); !node.empty()) {
      DrawnSpec asking = DrawSpec(prng_, plan_.small);
      AskForNode(node, asking);
      asking.spec.set_name(absl::StrCat("class", driver->classes.size() + 1));
      const client::ClassNumber number = driver->core->AddClass(asking.spec);
      driver->classes.emplace_back(number, std::move(asking));
    }
    const auto& [number, spec] = driver->classes[prng_.Below(driver->classes.size())];
    task_class = number;
    drawn = spec;
    if (!driver->groups.empty() && prng_.Percent(40)) {  // In the last, or where that is over, not.
      const SimGroup& last = *driver->groups.back();
      task_class = last.inside[prng_.Below(last.inside.size())];
      drawn = DrawnSpec{InsideSpec(last.request, -1), false};
      task->may_fail = true;  // The group may be removed before.
    }
  }
  task->class_name = drawn.spec.name();
  if (!drawn.spec.affinity().soft()) task->only_on = drawn.spec.affinity().node();
  task->max_retries = prng_.Percent(10) ? -1 : static_cast<int>(prng_.Between(0, 3));
  const uint64_t length = prng_.Below(10);
  task->run = length < 6   ? prng_.Between(absl::Microseconds(20), absl::Milliseconds(3))
              : length < 9 ? prng_.Between(absl::Milliseconds(3), absl::Milliseconds(200))
                           : prng_.Between(absl::Milliseconds(200), absl::Seconds(4));
  if (drawn.spec.has_return_to_preferred()) task->run += absl::Seconds(1);
  task->fails = prng_.Percent(8);
  task->cooperates = prng_.Percent(50);
  task->may_fail = task->may_fail || task->fails || drawn.nowhere ||
                   drawn.spec.fail_if_infeasible() || plan_.queued_tasks_max < 1000;
  if (prng_.Percent(8)) {
    task->timeout = prng_.Between(absl::Milliseconds(1), absl::Seconds(3));
    task->may_fail = true;
  }
  if (!group && prng_.Percent(plan_.small ? 30 : 8))
    task->children = static_cast<int>(prng_.Between(1, 4));
  std::vector<client::ArgumentSlot> arguments;
  if (driver->last_task > 0 && prng_.Percent(25)) {
    for (int64_t i = prng_.Between(1, 3); i > 0; --i) {
      const uint64_t number =
          driver->last_task - prng_.Below(std::min<uint64_t>(driver->last_task, 10));
      const SimTask& producer = *driver->tasks.at(number);
      if (producer.completions > 0 && !producer.status.ok()) continue;
      if (producer.may_fail) task->may_fail = true;
      client::ArgumentSlot slot;
      if (producer.completions > 0) {
        slot.value = driver->values[number];
      } else {
        slot.producer = number;
      }
      arguments.push_back(std::move(slot));
    }
  }
  if (prng_.Percent(10)) {
    task->may_fail = true;
    const bool force = prng_.Percent(50);
    clock_.After(prng_.Between(absl::ZeroDuration(), absl::Seconds(2)),
                 [this, driver, task, force] {
                   if (!driver->dead && task->completions == 0)
                     Step(driver, client::CancelAsked{task->number, force}, "cancel");
                 });
  }
  if (!group) {
    Submit(driver, task, task_class, std::move(arguments));
    return;
  }
  Register(*driver, task);
  client::SubmitGroup submit;
  submit.task = task->number;
  submit.spec = drawn.spec;
  submit.call.name = "group";
  submit.call.arguments = std::move(arguments);
  submit.max_restarts = task->max_retries;
  submit.timeout = task->timeout;
  submit.cookie = task;
  if (drawn.nowhere) nowhere_.emplace_back(driver, task);
  Step(driver, std::move(submit), "submit group");
}

void ClusterSim::Register(DriverProcess& driver, const std::shared_ptr<SimTask>& task) {
  task->driver = driver.id;
  task->number = ++driver.last_task;
  driver.tasks.emplace(task->number, task);
  driver.values.resize(driver.last_task + 1);
}

void ClusterSim::Submit(const std::shared_ptr<DriverProcess>& driver,
                        const std::shared_ptr<SimTask>& task, client::ClassNumber task_class,
                        std::vector<client::ArgumentSlot> arguments) {
  Register(*driver, task);
  client::Submit submit;
  submit.task = task->number;
  submit.task_class = task_class;
  submit.call.name = task->class_name;
  submit.call.arguments = std::move(arguments);
  submit.max_retries = task->max_retries;
  submit.timeout = task->timeout;
  submit.cookie = task;
  for (const auto& [number, drawn] : driver->classes) {
    if (number == task_class && drawn.nowhere) nowhere_.emplace_back(driver, task);
  }
  Step(driver, std::move(submit), "submit");
}

void ClusterSim::CancelNowhere() {
  for (const auto& [driver, task] : std::exchange(nowhere_, {})) {
    if (!driver->dead && task->completions == 0)
      Step(driver, client::CancelAsked{task->number, false}, "cancel");
  }
}

void ClusterSim::Do(const DriverPtr& driver, const client::ToHead& to, Broke&) {
  if (options_.plant == Plant::kDropRequest && to.message.has_request() &&
      driver->stream != nullptr && !std::exchange(planted_, true))
    return;
  SendToHead(driver->stream, to.message.SerializeAsString());
}

void ClusterSim::Do(const DriverPtr& driver, const struct client::Connect& connect, Broke& broke) {
  std::shared_ptr<SimExecutor> executor;
  for (const auto& [number, worker] : workers_) {
    for (const auto& [id, process] : worker->executors) {
      if (process->sim != nullptr && !process->gone &&
          process->sim->socket() == connect.granted.unix_socket())
        executor = process->sim;
    }
  }
  if (executor == nullptr) {
    broke.push_back(client::LeaseBroke{connect.lease, "connection refused"});
    return;
  }
  auto link = std::make_shared<DataLink>(++last_connection_, driver->id, connect.lease, network_);
  link->executor = std::move(executor);
  driver->links[connect.lease] = link;
  data_[link->id] = link;
  v1::ToExecutor open;
  *open.mutable_open()->mutable_lease() = connect.granted.lease();
  open.mutable_open()->set_token(connect.granted.token());
  Send(link, open);
}

void ClusterSim::Send(const std::shared_ptr<DataLink>& link, const v1::ToExecutor& sent) {
  link->to_executor.Send([this, link, bytes = sent.SerializeAsString()] {
    if (!data_.contains(link->id)) return;
    v1::ToExecutor message;
    Parse(bytes, message);
    Note("executor", link->executor->number(), "<- driver", message);
    link->executor->OnFrame(link->id, message);
  });
}

void ClusterSim::Do(const DriverPtr& driver, const client::ToExecutor& to, Broke&) {
  if (const auto link = driver->links.find(to.lease); link != driver->links.end())
    Send(link->second, to.message);
}

void ClusterSim::Do(const DriverPtr& driver, const client::CloseConnection& close, Broke&) {
  const auto link = driver->links.find(close.lease);
  if (link == driver->links.end()) return;
  CloseFromDriver(link->second);
  driver->links.erase(link);
}

void ClusterSim::Do(const DriverPtr& driver, const client::Complete& complete, Broke&) {
  const auto task = std::static_pointer_cast<SimTask>(complete.cookie);
  Note("driver", driver->id, "completes",
       absl::StrCat(task->number, " ", complete.status.ToString()));
  checker_.Completes(*task, complete.status, complete.value);
  if (options_.plant == Plant::kCompleteTwice && task->number == 2)
    checker_.Completes(*task, complete.status, complete.value);
  driver->values[task->number] = complete.value;
  if (!driver->nested || task->family != driver->family || --driver->children_left > 0) return;
  if (driver->when_children_end == nullptr) return;
  clock_.After(absl::ZeroDuration(), std::exchange(driver->when_children_end, nullptr));
}

void ClusterSim::Do(const DriverPtr& driver, const client::Print& print, Broke&) {
  Note("driver", driver->id, "prints", print.text);
}

void ClusterSim::Do(const DriverPtr& driver, const client::Refused& refused, Broke&) {
  checker_.Fail(absl::StrCat("driver ", driver->id, " is refused: ", refused.status.ToString()));
}

void ClusterSim::ArmTick(const DriverPtr& driver) {
  Arm(driver, [this, driver] {
    if (driver->dead) return;
    if (driver->core->NextTick() > clock_.now()) {
      ArmTick(driver);
      return;
    }
    Step(driver, client::Tick{}, "tick");
    if (driver->core->NextTick() <= clock_.now())
      checker_.Fail("a driver's tick is due again at once");
  });
}

void ClusterSim::SayGoodbye(const DriverPtr& driver) {
  v1::DriverMessage message;
  message.mutable_goodbye();
  SendToHead(driver->stream, message.SerializeAsString());
  EndDriver(driver, /*crash=*/false);
}

void ClusterSim::EndDriver(const DriverPtr& driver, bool crash) {
  if (std::exchange(driver->dead, true)) return;
  Note("driver", driver->id, crash ? "crashes" : "ends");
  if (driver->stream != nullptr)
    CloseFromProcess(std::exchange(driver->stream, nullptr), !crash || prng_.Percent(50));
  for (const auto& [number, link] : std::exchange(driver->links, {})) CloseFromDriver(link);
  for (const auto& [number, task] : driver->tasks) {
    if (!crash || task->completions > 0) kept_.push_back(task);
  }
  driver->when_children_end = nullptr;  // It keeps the executor alive, which keeps the driver.
  drivers_.erase(driver->id);
}

}  // namespace muster::sim
